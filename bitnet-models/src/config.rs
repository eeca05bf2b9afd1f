//! The configuration of a model, and how `config.json` of a Hugging Face checkpoint says it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result, Short};

/// More layers than any model has, and as many tensors as a file may have.
pub(crate) const MOST_LAYERS: usize = 1 << 16;

/// Sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Number of token ids.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward network.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; each serves `num_attention_heads / num_key_value_heads`
    /// query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Most positions that a sequence may have.
    pub max_position_embeddings: usize,
    /// Added to the mean square in every RMS norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding's frequencies.
    pub rope_theta: f64,
    /// Token ids that end a text.
    pub eos_token_ids: Vec<u32>,
    /// How the linear layers are stored.
    pub flavour: Flavour,
    /// The activation of the feed-forward network's gate.
    pub hidden_act: Activation,
    /// Whether the head is the embedding matrix; if not, it is `lm_head.weight`.
    pub tie_word_embeddings: bool,
}

/// The activation of the feed-forward network's gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `relu(x)^2`, of BitNet b1.58 2B4T.
    Relu2,
    /// `x * sigmoid(x)`, of the older models.
    Silu,
}

/// How a checkpoint stores the weights of its linear layers, and what its scale means
/// (transformers, `integrations/bitnet.py`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// `AutoBitLinear`, offline: packed ternary, the output is *multiplied* by `weight_scale`.
    Offline,
    /// `AutoBitLinear`, online: float master weights, made ternary at load.
    Online,
    /// `BitLinear`, the older checkpoints: packed ternary, the output is *divided* by `weight_scale`.
    BitLinear,
    /// No quantisation: float weights and float activations.
    Unquantised,
    /// A GGUF file, each tensor of which says how it is stored.
    Gguf,
}

impl Config {
    /// Reads a `config.json`; `file` names it in errors.
    ///
    /// # Errors
    ///
    /// If it is not JSON, lacks a size, or asks for an architecture, activation, quantisation or type other than those
    /// of BitNet b1.58.
    pub fn from_json(json: &[u8], file: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_slice(json).map_err(|error| Error::Format {
            file: file.to_owned(),
            reason: format!("not a BitNet configuration: {error}"),
        })?;
        let check = Check { file };
        let known = raw.architectures.iter().flatten().any(|name| name == ARCHITECTURE);
        check.is("architectures", known, ARCHITECTURE, raw.architectures.as_ref())?;
        check.is("model_type", raw.model_type == "bitnet", "\"bitnet\"", Some(&raw.model_type))?;
        let hidden_act = match raw.hidden_act.as_str() {
            "relu2" => Activation::Relu2,
            "silu" => Activation::Silu,
            other => return Err(check.error("hidden_act", "\"relu2\" or \"silu\"", Some(other))),
        };
        check.is("attention_bias", !raw.attention_bias, "false", Some(&raw.attention_bias))?;
        check.is("rope_scaling", raw.rope_scaling.is_none(), "null", raw.rope_scaling.as_ref())?;
        let dtype = raw.torch_dtype.or(raw.dtype);
        let dtype = dtype.as_deref().unwrap_or("float32");
        let known = ["float32", "bfloat16", "float16"].contains(&dtype);
        check.is("torch_dtype", known, "\"float32\", \"bfloat16\" or \"float16\"", Some(dtype))?;

        let positive = |field, size: usize| check.is(field, size > 0, "at least 1", Some(&size));
        positive("vocab_size", raw.vocab_size)?;
        positive("hidden_size", raw.hidden_size)?;
        positive("intermediate_size", raw.intermediate_size)?;
        positive("num_hidden_layers", raw.num_hidden_layers)?;
        check.is(
            "num_hidden_layers",
            raw.num_hidden_layers <= MOST_LAYERS,
            &format!("at most {MOST_LAYERS}"),
            Some(&raw.num_hidden_layers),
        )?;
        positive("num_attention_heads", raw.num_attention_heads)?;
        positive("max_position_embeddings", raw.max_position_embeddings)?;
        let heads = raw.num_attention_heads;
        let kv_heads = raw.num_key_value_heads.unwrap_or(heads);
        check.is(
            "num_key_value_heads",
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            &format!("a divisor of {heads}"),
            Some(&kv_heads),
        )?;
        let head_dim = raw.head_dim.unwrap_or(raw.hidden_size / heads);
        let head_dims =
            raw.hidden_size.is_multiple_of(heads) && head_dim == raw.hidden_size / heads && head_dim.is_multiple_of(2);
        check.is("head_dim", head_dims, "hidden_size / num_attention_heads, an even number", Some(&head_dim))?;
        check.is(
            "rms_norm_eps",
            raw.rms_norm_eps.is_finite() && raw.rms_norm_eps >= 0.0,
            "a finite number of at least 0",
            Some(&raw.rms_norm_eps),
        )?;
        let rope_theta = rope_theta(&raw.rope_parameters.unwrap_or_default(), &check)?;
        let rope_theta = rope_theta.or(raw.rope_theta).unwrap_or(ROPE_THETA);
        let usable = rope_theta.is_finite() && rope_theta > 0.0;
        check.is("rope_theta", usable, "a finite number above 0", Some(&rope_theta))?;

        Ok(Self {
            vocab_size: raw.vocab_size,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            max_position_embeddings: raw.max_position_embeddings,
            rms_norm_eps: raw.rms_norm_eps,
            rope_theta,
            eos_token_ids: raw.eos_token_id.map_or_else(Vec::new, OneOrMany::into_vec),
            flavour: flavour(raw.quantization_config.as_ref(), &check)?,
            hidden_act,
            tie_word_embeddings: raw.tie_word_embeddings,
        })
    }
}

const ARCHITECTURE: &str = "BitNetForCausalLM";

/// Default of transformers' `BitNetConfig`.
const ROPE_THETA: f64 = 500_000.0;

/// The keys that this crate reads, with the defaults of transformers' `BitNetConfig`; sizes have no default here.
#[derive(Deserialize)]
struct Raw {
    architectures: Option<Vec<String>>,
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "relu2")]
    hidden_act: String,
    #[serde(default = "max_position_embeddings")]
    max_position_embeddings: usize,
    #[serde(default = "rms_norm_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_parameters: Option<Map<String, Value>>,
    rope_scaling: Option<Value>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    torch_dtype: Option<String>,
    dtype: Option<String>,
    eos_token_id: Option<OneOrMany>,
    quantization_config: Option<Quantization>,
}

fn relu2() -> String {
    "relu2".to_owned()
}

fn max_position_embeddings() -> usize {
    2048
}

fn rms_norm_eps() -> f64 {
    1e-5
}

/// The base in `rope_parameters`, where transformers 5 keeps it. Everything else there has to mean no scaling.
fn rope_theta(parameters: &Map<String, Value>, check: &Check<'_>) -> Result<Option<f64>> {
    let mut theta = None;
    let is_one = |value: &Value| value.as_f64() == Some(1.0);
    for (key, value) in parameters.iter().filter(|(_, value)| !value.is_null()) {
        match key.as_str() {
            "rope_theta" => {
                theta = value.as_f64();
                check.is("rope_parameters.rope_theta", theta.is_some(), "a number", Some(value))?;
            }
            "rope_type" => check.is("rope_parameters.rope_type", value == "default", "\"default\"", Some(value))?,
            // The older name.
            "type" => check.is("rope_parameters.type", value == "default", "\"default\"", Some(value))?,
            "factor" => check.is("rope_parameters.factor", is_one(value), "1", Some(value))?,
            "partial_rotary_factor" => {
                check.is("rope_parameters.partial_rotary_factor", is_one(value), "1", Some(value))?;
            }
            other => {
                let expected = "an object of `rope_theta` and `rope_type`, for all layers alike";
                let found = format!("an object with the key `{}`", Short(other));
                return Err(check.refusal("rope_parameters", expected, found));
            }
        }
    }
    Ok(theta)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`eos_token_id`: expected an id or a list of ids")]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

#[derive(Deserialize)]
struct Quantization {
    #[serde(default, deserialize_with = "present")]
    quant_method: Option<Value>,
    #[serde(default = "bitlinear")]
    linear_class: String,
    #[serde(default = "offline", rename = "quantization_mode")]
    mode: String,
    #[serde(default)]
    use_rms_norm: bool,
    modules_to_not_convert: Option<Value>,
}

/// A value that is there, also if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn bitlinear() -> String {
    "bitlinear".to_owned()
}

fn offline() -> String {
    "offline".to_owned()
}

fn flavour(quantization: Option<&Quantization>, check: &Check<'_>) -> Result<Flavour> {
    let Some(quantization) = quantization else { return Ok(Flavour::Unquantised) };
    let method = quantization.quant_method.as_ref();
    let bitnet = method.is_some_and(|method| method == "bitnet");
    check.is("quantization_config.quant_method", bitnet, "\"bitnet\"", method)?;
    let norm = quantization.use_rms_norm;
    check.is("quantization_config.use_rms_norm", !norm, "false", Some(&norm))?;
    if let Some(kept) = &quantization.modules_to_not_convert {
        let only_the_head = |list: &Vec<Value>| !list.is_empty() && list.iter().all(|name| name == HEAD);
        check.is(
            "quantization_config.modules_to_not_convert",
            kept.as_array().is_some_and(only_the_head),
            "null or [\"lm_head\"]: the linear layers of a model are stored alike, and its head is not quantised",
            Some(kept),
        )?;
    }
    let known = FLAVOURS.map(|(class, mode, _)| format!("{class} {mode}")).join(", ");
    let expected = format!("one of: {known} (or no quantization_config at all)");
    let (class, mode) = (quantization.linear_class.as_str(), quantization.mode.as_str());
    if let Some((.., flavour)) = FLAVOURS.iter().find(|(known, of, _)| (*known, *of) == (class, mode)) {
        return Ok(*flavour);
    }
    if FLAVOURS.iter().any(|(known, ..)| *known == class) {
        return Err(check.error("quantization_config.quantization_mode", &expected, Some(mode)));
    }
    Err(check.error("quantization_config.linear_class", &expected, Some(class)))
}

/// The module of the head. transformers' quantiser leaves it alone if `modules_to_not_convert` is `null` or names it.
const HEAD: &str = "lm_head";

/// The linear classes and quantisation modes of transformers' `BitNetQuantConfig` that go together.
const FLAVOURS: [(&str, &str, Flavour); 3] = [
    ("autobitlinear", "offline", Flavour::Offline),
    ("autobitlinear", "online", Flavour::Online),
    ("bitlinear", "offline", Flavour::BitLinear),
];

/// Errors about one file's fields.
struct Check<'a> {
    file: &'a str,
}

impl Check<'_> {
    fn is<T>(&self, field: &'static str, holds: bool, expected: &str, found: Option<&T>) -> Result<()>
    where
        T: Serialize + ?Sized,
    {
        if holds { Ok(()) } else { Err(self.error(field, expected, found)) }
    }

    /// `found` is shown as JSON; `None`: the key is not there.
    fn error<T>(&self, field: &'static str, expected: &str, found: Option<&T>) -> Error
    where
        T: Serialize + ?Sized,
    {
        let json = found.map(|found| serde_json::to_string(found).unwrap_or_default());
        self.refusal(field, expected, json.map_or_else(|| "missing".to_owned(), |json| Short(&json).to_string()))
    }

    fn refusal(&self, field: &'static str, expected: &str, found: String) -> Error {
        Error::Config { file: self.file.to_owned(), field, expected: expected.to_owned(), found }
    }
}

#[cfg(test)]
mod tests {
    use super::{Activation, Config, Flavour};

    /// A valid configuration with some keys replaced.
    fn with(changes: &serde_json::Value) -> Result<Config, String> {
        let mut json = serde_json::json!({
            "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "vocab_size": 256, "hidden_size": 64,
            "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "hidden_act": "relu2", "tie_word_embeddings": true, "torch_dtype": "float32", "eos_token_id": 2,
            "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"},
        });
        for (key, value) in changes.as_object().into_iter().flatten() {
            json[key] = value.clone();
        }
        Config::from_json(json.to_string().as_bytes(), "config.json").map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let config = with(&serde_json::json!({})).expect("valid");
        assert_eq!((config.head_dim, config.flavour, &config.eos_token_ids[..]), (16, Flavour::Offline, &[2][..]));
        assert!((config.rope_theta - 500_000.0).abs() < 1e-9 && (config.rms_norm_eps - 1e-5).abs() < 1e-12);
    }

    #[test]
    fn flavours() {
        let quantization = |class: &str, mode: &str| {
            with(&serde_json::json!({"quantization_config": {
                "quant_method": "bitnet", "linear_class": class, "quantization_mode": mode
            }}))
        };
        let flavour = |config: Result<Config, String>| config.map(|config| config.flavour);
        assert_eq!(flavour(quantization("autobitlinear", "online")), Ok(Flavour::Online));
        assert_eq!(flavour(quantization("bitlinear", "offline")), Ok(Flavour::BitLinear));
        assert_eq!(flavour(with(&serde_json::json!({"quantization_config": null}))), Ok(Flavour::Unquantised));
        let message = quantization("autobitlinear", "sideways").expect_err("refused");
        assert!(message.contains("autobitlinear offline, autobitlinear online, bitlinear offline"), "{message}");
    }

    /// `config.json` of microsoft/bitnet-b1.58-2B-4T-bf16, as published; with `offline` that of the packed repository.
    #[test]
    fn the_published_configuration() {
        let published = r#"{"architectures": ["BitNetForCausalLM"], "bos_token_id": 128000, "eos_token_id": 128001,
            "hidden_act": "relu2", "hidden_size": 2560, "initializer_range": 0.02, "intermediate_size": 6912,
            "max_position_embeddings": 4096, "model_type": "bitnet", "rms_norm_eps": 1e-05, "num_attention_heads": 20,
            "num_hidden_layers": 30, "num_key_value_heads": 5, "rope_theta": 500000.0, "tie_word_embeddings": true,
            "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256, "quantization_config":
            {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}}"#;
        let config = Config::from_json(published.as_bytes(), "config.json").expect("accepted");
        assert_eq!((config.head_dim, config.vocab_size, config.flavour), (128, 128_256, Flavour::Online));
        assert_eq!((config.hidden_act, config.tie_word_embeddings), (Activation::Relu2, true));
        let newer = published
            .replace(
                "\"rope_theta\": 500000.0",
                r#""rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}"#,
            )
            .replace("torch_dtype", "dtype");
        let config = Config::from_json(newer.as_bytes(), "config.json").expect("accepted");
        assert!((config.rope_theta - 10_000.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (changes, field) in [
            (serde_json::json!({"architectures": ["LlamaForCausalLM"]}), "`architectures`"),
            (serde_json::json!({"model_type": "llama"}), "`model_type`"),
            (serde_json::json!({"hidden_act": "gelu"}), "`hidden_act`"),
            (serde_json::json!({"torch_dtype": "float64"}), "`torch_dtype`"),
            (serde_json::json!({"num_key_value_heads": 3}), "`num_key_value_heads`"),
            (serde_json::json!({"num_attention_heads": 0}), "`num_attention_heads`"),
            (serde_json::json!({"hidden_size": 63}), "`head_dim`"),
            (
                serde_json::json!({"quantization_config": {"quant_method": "bitnet", "linear_class": "trilinear"}}),
                "`quantization_config.linear_class`",
            ),
            (
                serde_json::json!({"quantization_config": {"quant_method": "bitnet", "linear_class": "bitlinear", "quantization_mode": "online"}}),
                "`quantization_config.quantization_mode`",
            ),
            (serde_json::json!({"vocab_size": "many"}), "config.json"),
            (serde_json::json!({"num_hidden_layers": 0}), "`num_hidden_layers` is 0; expected at least 1"),
            (serde_json::json!({"num_hidden_layers": 65537}), "`num_hidden_layers` is 65537; expected at most 65536"),
            (serde_json::json!({"num_hidden_layers": 1u64 << 60}), "`num_hidden_layers`"),
        ] {
            let message = with(&changes).expect_err("refused");
            assert!(message.contains(field), "{message}");
        }
    }

    #[test]
    fn what_is_found_is_shown_as_json() {
        let quantization = |method: &serde_json::Value| {
            with(&serde_json::json!({"quantization_config": {"quant_method": method}})).expect_err("refused")
        };
        let field = "config.json: `quantization_config.quant_method` is";
        let expected = "expected \"bitnet\"";
        assert_eq!(quantization(&"gptq".into()), format!("{field} \"gptq\"; {expected}"));
        assert_eq!(quantization(&serde_json::Value::Null), format!("{field} null; {expected}"));
        let missing = with(&serde_json::json!({"quantization_config": {}})).expect_err("refused");
        assert_eq!(missing, format!("{field} missing; {expected}"));
        let scaling = with(&serde_json::json!({"rope_scaling": {"type": "linear", "factor": 4.0}}));
        let expected = "config.json: `rope_scaling` is {\"factor\":4.0,\"type\":\"linear\"}; expected null";
        assert_eq!(scaling, Err(expected.to_owned()));
        let long = with(&serde_json::json!({"hidden_act": "x".repeat(1_000_000)})).expect_err("refused");
        assert!(long.len() < 400 && long.contains("(1000002 bytes)"), "{long}");
    }

    #[test]
    fn positions_are_not_scaled() {
        let rope = |parameters: serde_json::Value| {
            with(&serde_json::json!({"rope_theta": 7.0, "rope_parameters": parameters})).map(|config| config.rope_theta)
        };
        for accepted in [
            serde_json::json!(null),
            serde_json::json!({"rope_type": "default", "type": "default"}),
            serde_json::json!({"rope_type": null, "factor": 1, "partial_rotary_factor": 1.0, "beta_fast": null}),
        ] {
            assert_eq!(rope(accepted), Ok(7.0));
        }
        assert_eq!(rope(serde_json::json!({"rope_theta": 8.0})), Ok(8.0));
        for (parameters, said) in [
            (serde_json::json!({"rope_type": "linear", "factor": 4.0}), "`rope_parameters.factor` is 4.0; expected 1"),
            (serde_json::json!({"rope_type": "yarn"}), "`rope_parameters.rope_type` is \"yarn\"; expected \"default\""),
            (serde_json::json!({"type": "linear"}), "`rope_parameters.type` is \"linear\"; expected \"default\""),
            (serde_json::json!({"partial_rotary_factor": 0.5}), "`rope_parameters.partial_rotary_factor` is 0.5"),
            (serde_json::json!({"rope_theta": "8"}), "`rope_parameters.rope_theta` is \"8\"; expected a number"),
            (serde_json::json!({"full_attention": {"rope_type": "linear"}}), "the key `full_attention`"),
        ] {
            let message = rope(parameters).expect_err("refused");
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn only_the_head_stays_in_floats() {
        let kept = |modules: serde_json::Value| {
            let config = serde_json::json!({"quant_method": "bitnet", "linear_class": "autobitlinear",
                "quantization_mode": "online", "modules_to_not_convert": modules});
            with(&serde_json::json!({"quantization_config": config})).map(|config| config.flavour)
        };
        for accepted in [serde_json::Value::Null, serde_json::json!(["lm_head"])] {
            assert_eq!(kept(accepted), Ok(Flavour::Online));
        }
        for refused in [
            serde_json::json!([]),
            serde_json::json!(["lm_head", "q_proj"]),
            serde_json::json!(["model.layers.0.self_attn.q_proj"]),
            serde_json::json!("lm_head"),
        ] {
            let message = kept(refused.clone()).expect_err("refused");
            let said =
                format!("`quantization_config.modules_to_not_convert` is {refused}; expected null or [\"lm_head\"]");
            assert!(message.contains(&said), "{message}");
        }
    }
}
