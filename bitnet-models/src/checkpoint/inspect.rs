//! What is in a checkpoint, also in one that cannot be run: everything that can be read, and what is wrong.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::gguf::{self, Array, Metadata, Value};
use super::stored::{Contents, Problems};
use super::{CONFIG, Checkpoint, LARGEST_JSON, Place, TENSORS, is_safetensors, map_tensors, safetensors, shards};
use crate::bytes::{map, read};
use crate::config::{Activation, Config, Flavour};
use crate::error::{Error, Result};
use crate::transformer::Transformer;

/// The contents of a checkpoint, or of one file of one. If there are no problems, a checkpoint can be run, and a
/// safetensors file, which is a part of one, is whole.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The file or directory.
    pub path: String,
    /// `GGUF 3`, `safetensors`, or `unknown`.
    pub format: String,
    /// Sizes and constants by their names in transformers; `null` if they could not be read.
    pub config: Json,
    /// Metadata of a GGUF file: values, and type and length of arrays.
    pub metadata: serde_json::Map<String, Json>,
    /// All tensors, in the order of the files.
    pub tensors: Vec<Row>,
    /// Sums by type.
    pub totals: Vec<Total>,
    /// What is wrong, in words. The first one is what `bitnet run` says. If there are very many, the last one says how many
    /// are left out.
    pub problems: Vec<String>,
}

/// A tensor.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The file it is in.
    pub file: String,
    /// Its name there.
    pub name: String,
    /// Its type there.
    #[serde(rename = "type")]
    pub kind: String,
    /// Row-major.
    pub shape: Vec<usize>,
    /// Where its data begins in the file; of a GGUF file that ends in its head, counted from the first tensor.
    pub offset: u64,
    /// The size of its data; `null` for a type whose size is not known.
    pub bytes: Option<u64>,
}

/// The tensors of one type together.
#[derive(Debug, Serialize)]
pub struct Total {
    /// The type.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many tensors there are.
    pub tensors: usize,
    /// Their values.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Inspection {
    /// Looks at a GGUF file, a safetensors file, or a checkpoint directory.
    ///
    /// # Errors
    ///
    /// If nothing at all can be read, because there is no such file or it is not a regular one.
    pub fn of(path: &Path) -> Result<Self> {
        let mut inspection = Self {
            path: path.display().to_string(),
            format: "unknown".to_owned(),
            config: Json::Null,
            metadata: serde_json::Map::new(),
            tensors: Vec::new(),
            totals: Vec::new(),
            problems: Vec::new(),
        };
        let mut problems = Problems::default();
        match Place::of(path)? {
            Place::Gguf(file) => inspection.file(&file, &mut problems)?,
            Place::HuggingFace(directory) => inspection.directory(&directory, &mut problems)?,
        }
        inspection.total();
        if problems.is_empty() && (inspection.format != "safetensors" || path.is_dir()) {
            // What only shows when the weights are read, such as tensors that are missing.
            let loaded = Checkpoint::open(path).and_then(|checkpoint| Transformer::load(&checkpoint));
            problems.extend(loaded.err());
        }
        inspection.problems = problems.iter().map(described).collect();
        if problems.more() > 0 {
            inspection.problems.push(format!("and {} more problems", problems.more()));
        }
        Ok(inspection)
    }

    fn file(&mut self, file: &Path, problems: &mut Problems) -> Result<()> {
        let name = file.display().to_string();
        let bytes = map(file)?;
        if is_safetensors(file, &bytes) {
            "safetensors".clone_into(&mut self.format);
            self.add(safetensors::scan(&name, &bytes), problems);
        } else {
            let scan = gguf::scan(&name, &bytes);
            self.format = scan.version.map_or_else(|| "unknown".to_owned(), |version| format!("GGUF {version}"));
            self.metadata = scan.metadata.iter().map(|(key, value)| (key.to_owned(), json(value))).collect();
            let config = gguf_config(&scan.metadata, &scan.contents);
            self.add(scan.contents, problems);
            self.config(config, problems);
        }
        Ok(())
    }

    fn directory(&mut self, directory: &Path, problems: &mut Problems) -> Result<()> {
        let file = directory.join(CONFIG);
        let config = read(&file, LARGEST_JSON);
        let single = directory.join(TENSORS);
        let index = directory.join(shards::INDEX);
        let config = match config {
            Err(error) if !single.exists() && !index.exists() => return Err(error),
            config => config.and_then(|json| Config::from_json(&json, &file.display().to_string())),
        };
        "safetensors".clone_into(&mut self.format);
        self.config(config, problems);
        if single.exists() || !index.exists() {
            match map_tensors(directory) {
                Ok(bytes) => self.add(safetensors::scan(&single.display().to_string(), &bytes), problems),
                Err(error) => problems.push(error),
            }
            return Ok(());
        }
        match shards::Index::read(directory) {
            Ok(index) => index.scan().for_each(|contents| match contents {
                Ok(contents) => self.add(contents, problems),
                Err(error) => problems.push(error),
            }),
            Err(error) => problems.push(error),
        }
        Ok(())
    }

    fn add(&mut self, contents: Contents, problems: &mut Problems) {
        problems.append(contents.problems);
        self.tensors.extend(contents.tensors.iter().map(|tensor| Row {
            file: tensor.file.to_string(),
            name: tensor.name.clone(),
            kind: tensor.kind.to_string(),
            shape: tensor.shape.clone(),
            offset: tensor.offset,
            bytes: tensor.length,
        }));
    }

    fn config(&mut self, config: Result<Config>, problems: &mut Problems) {
        match config {
            Ok(config) => self.config = config_json(&config),
            Err(error) => problems.push(error),
        }
    }

    fn total(&mut self) {
        let mut totals: BTreeMap<&str, (usize, u64, u64)> = BTreeMap::new();
        for row in &self.tensors {
            let (tensors, values, bytes) = totals.entry(&row.kind).or_default();
            let product = row.shape.iter().fold(1u64, |product, size| product.saturating_mul(*size as u64));
            *tensors += 1;
            *values = values.saturating_add(product);
            *bytes = bytes.saturating_add(row.bytes.unwrap_or(0));
        }
        let total =
            |(kind, (tensors, values, bytes)): (&str, _)| Total { kind: kind.to_owned(), tensors, values, bytes };
        self.totals = totals.into_iter().map(total).collect();
    }
}

fn gguf_config(metadata: &Metadata, contents: &Contents) -> Result<Config> {
    gguf::config(metadata, &contents.tensors)
}

/// The message, then its reasons, down to the system's.
fn described(error: &Error) -> String {
    let mut text = error.to_string();
    let mut reason = std::error::Error::source(error);
    while let Some(error) = reason {
        text.push_str(": ");
        text.push_str(&error.to_string());
        reason = error.source();
    }
    text
}

fn config_json(config: &Config) -> Json {
    json!({
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "eos_token_ids": config.eos_token_ids,
        "hidden_act": match config.hidden_act {
            Activation::Relu2 => "relu2",
            Activation::Silu => "silu",
        },
        "tie_word_embeddings": config.tie_word_embeddings,
        "flavour": match config.flavour {
            Flavour::Offline => "autobitlinear offline",
            Flavour::Online => "autobitlinear online",
            Flavour::BitLinear => "bitlinear offline",
            Flavour::Unquantised => "not quantised",
            Flavour::Gguf => "as each tensor of the GGUF file says",
        },
    })
}

/// A value as JSON; of an array only type and length, since vocabularies have megabytes.
fn json(value: &Value) -> Json {
    match value {
        Value::U8(number) => json!(number),
        Value::I8(number) => json!(number),
        Value::U16(number) => json!(number),
        Value::I16(number) => json!(number),
        Value::U32(number) => json!(number),
        Value::I32(number) => json!(number),
        Value::U64(number) => json!(number),
        Value::I64(number) => json!(number),
        // The shortest decimal, as a person wrote it.
        Value::F32(number) => number.to_string().parse::<f64>().map_or(Json::Null, |number| json!(number)),
        Value::F64(number) => json!(number),
        Value::Bool(truth) => json!(truth),
        Value::String(text) => json!(text),
        Value::Array(array) => json!({"array": Array::element(array), "length": array.len()}),
    }
}
