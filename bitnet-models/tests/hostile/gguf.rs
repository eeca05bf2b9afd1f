//! GGUF files with one thing wrong each.

use std::fs;

use bitnet_models::Checkpoint;
use bitnet_models::synth::Format;
use bytes::Bytes;

use super::{load, refused, synthetic};

/// A file that a test changes.
#[derive(Clone)]
struct File(Vec<u8>);

impl File {
    fn new(format: Format) -> Self {
        let directory = synthetic(format);
        Self(fs::read(directory.path().join("model")).expect("written"))
    }

    /// Where a text in the head ends, which its length precedes.
    fn after(&self, text: &str) -> usize {
        let mut wanted = (text.len() as u64).to_le_bytes().to_vec();
        wanted.extend(text.as_bytes());
        let at = self.0.windows(wanted.len()).position(|window| window == wanted);
        at.unwrap_or_else(|| panic!("no {text}")) + wanted.len()
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Overwrites the value of a key, after its type.
    fn value(self, key: &str, bytes: &[u8]) -> Self {
        let at = self.after(&key.replace('~', "bitnet-b1.58")) + 4;
        self.put(at, bytes)
    }

    /// Overwrites the type of a key's value.
    fn kind(self, key: &str, kind: u32) -> Self {
        let at = self.after(&key.replace('~', "bitnet-b1.58"));
        self.put(at, &kind.to_le_bytes())
    }

    /// Overwrites a text of the head with one of the same length.
    fn rename(self, text: &str, to: &str) -> Self {
        assert_eq!(text.len(), to.len());
        let at = self.after(text) - text.len();
        self.put(at, to.as_bytes())
    }

    /// Where the description of a tensor with two dimensions is: their number, two sizes, type, offset.
    fn tensor(&self, name: &str) -> usize {
        self.after(name)
    }

    /// Where the data of all tensors begins: after the description of the last one, a vector.
    fn begin(&self) -> usize {
        (self.after("output_norm.weight") + 4 + 8 + 4 + 8).next_multiple_of(32)
    }

    /// Where the data of a matrix begins.
    fn data(&self, name: &str) -> usize {
        let at = self.tensor(name) + 4 + 16 + 4;
        let offset = u64::from_le_bytes(*self.0[at..].first_chunk().expect("an offset"));
        self.begin() + usize::try_from(offset).expect("small")
    }

    /// Adds bytes to the head; the data moves to the next multiple of the alignment.
    fn insert(mut self, at: usize, bytes: &[u8]) -> Self {
        let (end, begin) = (self.after("output_norm.weight") + 4 + 8 + 4 + 8, self.begin());
        let data = self.0.split_off(begin);
        self.0.truncate(end);
        self.0.splice(at..at, bytes.iter().copied());
        self.0.resize(self.0.len().next_multiple_of(32), 0);
        self.0.extend(data);
        self
    }

    /// Adds one to the number of tensors or keys.
    fn count(self, at: usize) -> Self {
        let count = u64::from_le_bytes(*self.0[at..].first_chunk().expect("a number"));
        self.put(at, &(count + 1).to_le_bytes())
    }

    /// Adds a key before the others.
    fn key(self, key: &str, kind: u32, value: &[u8]) -> Self {
        let key = key.replace('~', "bitnet-b1.58");
        let pair = [&(key.len() as u64).to_le_bytes()[..], key.as_bytes(), &kind.to_le_bytes(), value].concat();
        self.count(16).insert(24, &pair)
    }

    fn text(self, key: &str, text: &str) -> Self {
        self.key(key, 8, &[&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat())
    }

    /// Adds a vector of F32 after the other tensors.
    fn vector(mut self, name: &str, values: &[f32]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32), 0);
        let offset = (self.0.len() - self.begin()) as u64;
        let end = self.after("output_norm.weight") + 4 + 8 + 4 + 8;
        let info = [
            &(name.len() as u64).to_le_bytes()[..],
            name.as_bytes(),
            &1u32.to_le_bytes(),
            &(values.len() as u64).to_le_bytes(),
            &0u32.to_le_bytes(),
            &offset.to_le_bytes(),
        ];
        let mut file = self.count(8).insert(end, &info.concat());
        file.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        file
    }

    fn load(&self) -> Result<(), String> {
        load(Checkpoint::from_gguf("x.gguf", &Bytes::from(self.0.clone())))
    }

    fn message(&self, case: &str) -> String {
        refused(Checkpoint::from_gguf("x.gguf", &Bytes::from(self.0.clone())), case)
    }
}

/// The linear layer that the cases damage, `[256, 256]`.
const LINEAR: &str = "blk.0.attn_q.weight";
const KEY: &str = "general.architecture";

fn check(cases: Vec<(&str, File, &[&str])>) {
    for (case, file, said) in cases {
        let message = file.message(case);
        assert!(message.contains("x.gguf"), "{case}: {message}");
        for part in said {
            assert!(message.contains(part), "{case}: {part:?} is not in: {message}");
        }
    }
}

#[test]
fn heads() {
    let file = File::new(Format::I2S);
    let pairs = 16;
    check(vec![
        ("empty", File(vec![]), &["byte 0", "found the end of the file after 0 bytes"]),
        (
            "another format",
            file.clone().put(0, b"GGML"),
            &["byte 0", "expected the magic number \"GGUF\", found \"GGML\""],
        ),
        ("version 1", file.clone().put(4, &1u32.to_le_bytes()), &["byte 4", "version 1; expected 2 or 3"]),
        ("version 4", file.clone().put(4, &4u32.to_le_bytes()), &["version 4; expected 2 or 3"]),
        ("big-endian", file.clone().put(4, &3u32.to_be_bytes()), &["big-endian", "gguf_convert_endian.py"]),
        (
            "2^64 - 1 tensors",
            file.clone().put(8, &[0xff; 8]),
            &["byte 8", "the number of tensors", "18446744073709551615"],
        ),
        (
            "2^63 keys",
            file.clone().put(pairs, &(1u64 << 63).to_le_bytes()),
            &["byte 16", "the number of metadata keys"],
        ),
        ("a key of 2^62 bytes", file.clone().put(24, &(1u64 << 62).to_le_bytes()), &["byte 32", "a metadata key"]),
        (
            "a text of five gigabytes",
            file.clone().value(KEY, &5_000_000_000u64.to_le_bytes()),
            &["the value of `general.architecture`, 5000000000 bytes", "found the end of the file"],
        ),
        ("an unknown type", file.clone().kind(KEY, 13), &["`general.architecture` has the type 13; expected 0 to 12"]),
        (
            "a text that is no UTF-8",
            file.clone().value(KEY, &[12, 0, 0, 0, 0, 0, 0, 0, 0xff]),
            &["expected the value of `general.architecture` in UTF-8"],
        ),
        ("a bool of 3", file.clone().kind("~.vocab_size", 7).value("~.vocab_size", &[3]), &["0 or 1; found 3"]),
        (
            "an array of arrays",
            file.clone().kind(KEY, 9).value(KEY, &9u32.to_le_bytes()),
            &["the values of the array `general.architecture` have the type 9", "arrays of arrays"],
        ),
        (
            "an array of 2^61 numbers",
            file.clone().kind(KEY, 9).value(KEY, &[&4u32.to_le_bytes()[..], &(1u64 << 61).to_le_bytes()].concat()),
            &["the number of values of `general.architecture`", "2305843009213693952"],
        ),
        (
            "an array of 2^40 texts",
            file.clone().kind(KEY, 9).value(KEY, &[&8u32.to_le_bytes()[..], &(1u64 << 40).to_le_bytes()].concat()),
            &["the number of values of `general.architecture`"],
        ),
        (
            "a key a second time",
            file.clone().rename("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"),
            &["the metadata key `tokenizer.ggml.eos_token_id` a second time"],
        ),
        (
            "a tensor a second time",
            file.clone().rename("blk.1.attn_q.weight", "blk.1.attn_k.weight"),
            &["the tensor `blk.1.attn_k.weight` a second time"],
        ),
    ]);
}

#[test]
fn tensors() {
    let file = File::new(Format::I2S);
    let at = file.tensor(LINEAR);
    let (dimensions, kind, offset) = (at + 4, at + 20, at + 24);
    let with_kind = |id: u32| file.clone().put(kind, &id.to_le_bytes());
    let other = file.tensor("blk.0.attn_k.weight") + 24;
    let others_offset: [u8; 8] = *file.0[other..].first_chunk().expect("an offset");
    check(vec![
        ("five dimensions", file.clone().put(at, &5u32.to_le_bytes()), &[LINEAR, "5 dimensions; expected at most 4"]),
        (
            "more values than 2^64",
            file.clone().put(dimensions, &[&(1u64 << 33).to_le_bytes()[..], &(1u64 << 33).to_le_bytes()].concat()),
            &[LINEAR, "more values than a file can have"],
        ),
        (
            "more bytes than the file",
            file.clone().put(dimensions + 8, &(1u64 << 30).to_le_bytes()),
            &[LINEAR, "expected data inside the file, which has"],
        ),
        (
            "rows of no whole blocks",
            File::new(Format::Tq2_0).put(dimensions, &255u64.to_le_bytes()),
            &[LINEAR, "rows of 255 values", "block of TQ2_0"],
        ),
        (
            "another shape",
            file.clone().put(dimensions, &128u64.to_le_bytes()),
            &[LINEAR, "expected [256, 256]", "[256, 128]"],
        ),
        ("TL1", with_kind(38), &[LINEAR, "TL1 (type 38)", "convert the original checkpoint to I2_S", "TQ2_0"]),
        ("TL2 or MXFP4", with_kind(39), &[LINEAR, "TL2 in Microsoft's fork, MXFP4 in llama.cpp", "convert"]),
        ("IQ1_S", with_kind(19), &[LINEAR, "IQ1_S", "convert"]),
        ("an unknown type", with_kind(1000), &[LINEAR, "the unknown type 1000", "convert"]),
        ("misaligned", file.clone().put(offset, &[1]), &[LINEAR, "a multiple of 32, the alignment"]),
        ("an offset near 2^64", file.clone().put(offset, &(u64::MAX - 31).to_le_bytes()), &[LINEAR, "inside the file"]),
        (
            "overlapping",
            file.clone().put(offset, &others_offset),
            &["attn_", "expected data after that of", "ends at byte"],
        ),
        ("not there", file.clone().rename(LINEAR, "blk.0.attn_x.weight"), &[LINEAR, "no such tensor"]),
    ]);
}

#[test]
fn values() {
    let file = File::new(Format::I2S);
    let data = file.data(LINEAR);
    let tail = data + 256 * 256 / 4;
    let scale = |scale: f32| file.clone().put(tail, &scale.to_le_bytes());
    let norm = |value: f32| {
        // A vector: one dimension less in its description.
        let at = file.tensor("blk.0.attn_norm.weight") + 4 + 8 + 4;
        let offset = u64::from_le_bytes(*file.0[at..].first_chunk().expect("an offset"));
        let start = file.begin();
        file.clone().put(start + usize::try_from(offset).expect("small"), &value.to_le_bytes())
    };
    let tq = |format, scale_at: usize| {
        let file = File::new(format);
        let at = file.data(LINEAR) + scale_at;
        file.put(at, &[0x00, 0x7e])
    };
    let tq2 = File::new(Format::Tq2_0);
    let tq2_data = tq2.data(LINEAR);
    check(vec![
        ("a scale that is NaN", scale(f32::NAN), &[LINEAR, "a finite number other than 0, found NaN"]),
        ("a scale without end", scale(f32::INFINITY), &[LINEAR, "a finite number other than 0, found inf"]),
        ("a scale of 0", scale(0.0), &[LINEAR, "a finite number other than 0, found 0"]),
        ("code 3", file.clone().put(data + 77, &[0b0101_1101]), &[LINEAR, "I2_S", "77"]),
        ("code 3 in TQ2_0", tq2.put(tq2_data + 66 + 5, &[0xff]), &[LINEAR, "TQ2_0", "71"]),
        ("a block's scale that is NaN", tq(Format::Tq2_0, 64), &[LINEAR, "TQ2_0", "NaN"]),
        ("the same in TQ1_0", tq(Format::Tq1_0, 54 + 52), &[LINEAR, "TQ1_0", "NaN"]),
        ("a norm that is NaN", norm(f32::NAN), &["blk.0.attn_norm.weight", "expected finite numbers, found NaN at 0"]),
    ]);
}

#[test]
fn metadata() {
    let file = File::new(Format::I2S);
    let u32 = |key: &str, value: u32| file.clone().value(key, &value.to_le_bytes());
    // Eight bytes of a key become another key, so that the file stays whole.
    let aligned = |kind: u32, value: u32| {
        let renamed = file.clone().rename("general.file_type", "general.alignment");
        renamed.kind("general.alignment", kind).value("general.alignment", &value.to_le_bytes())
    };
    check(vec![
        (
            "another architecture",
            file.clone().rename("bitnet-b1.58", "llama-b1.580"),
            &[KEY, "\"llama-b1.580\"", "\"bitnet-25\""],
        ),
        ("no architecture", file.clone().rename(KEY, "general.architexture"), &[KEY, "no such key"]),
        (
            "a size of another type",
            file.clone().kind("~.block_count", 6),
            &["block_count", "expected an integer", "found f32"],
        ),
        ("a size of 0", u32("~.block_count", 0), &["block_count", "expected at least 1, found 0"]),
        (
            "a size that is missing",
            file.clone().rename("bitnet-b1.58.block_count", "bitnet-b1.58.block_xount"),
            &["block_count", "no such key"],
        ),
        ("heads that do not divide", u32("~.attention.head_count", 3), &["head_count"]),
        (
            "key-value heads that do not divide",
            u32("~.attention.head_count_kv", 3),
            &["head_count_kv", "a divisor of 4", "found 3"],
        ),
        (
            "a width of heads that contradicts",
            u32("~.rope.dimension_count", 32),
            &["rope.dimension_count", "expected 64", "found 32"],
        ),
        (
            "an epsilon that is NaN",
            file.clone().value("~.attention.layer_norm_rms_epsilon", &f32::NAN.to_le_bytes()),
            &["epsilon", "finite", "NaN"],
        ),
        ("a base of 0", file.clone().value("~.rope.freq_base", &0f32.to_le_bytes()), &["rope.freq_base", "above 0"]),
        (
            "a vocabulary that contradicts",
            u32("~.vocab_size", 321),
            &["vocab_size", "320, the rows of token_embd.weight", "321"],
        ),
        ("a width that contradicts", u32("~.embedding_length", 512), &["rope.dimension_count", "128"]),
        (
            "an inner width that contradicts",
            u32("~.feed_forward_length", 768),
            &["blk.0.ffn_gate.weight", "[768, 256]", "[512, 256]"],
        ),
        ("more blocks than there are", u32("~.block_count", 65536), &["blk.2.attn_norm.weight", "no such tensor"]),
        ("more blocks than any model has", u32("~.block_count", u32::MAX), &["block_count", "at most 65536"]),
        ("an alignment of 3", aligned(4, 3), &["general.alignment", "a power of two", "3"]),
        ("an alignment of 0", aligned(4, 0), &["general.alignment", "a power of two"]),
        ("an alignment that moves the data", aligned(4, 1 << 31), &["inside the file"]),
        ("an alignment that is a float", aligned(6, 32), &["general.alignment", "expected an integer"]),
    ]);
}

/// Another program would compute something else with these.
#[test]
fn tensors_that_are_left_over() {
    let file = File::new(Format::I2S);
    let freqs = file.clone().vector("rope_freqs.weight", &[8.0; 32]);
    check(vec![
        (
            "fewer blocks than there are",
            file.clone().value("~.block_count", &1u32.to_le_bytes()),
            &["`blk.1.attn_k.weight`", "tensors of 1 layers, the `block_count`", "one of layer 1, counted from 0"],
        ),
        (
            "a bias",
            file.clone().vector("blk.0.attn_q.bias", &[50.0; 256]),
            &["`blk.0.attn_q.bias`", "F32 [256]", "left out of the computation"],
        ),
        ("factors of the frequencies", freqs, &["`rope_freqs.weight`", "F32 [32]", "left out of the computation"]),
        ("a name of no layer", file.clone().vector("blk.one.attn_q.bias", &[1.0]), &["blk.one", "left out"]),
    ]);
    // Optional, and used.
    assert_eq!(file.clone().vector("blk.0.attn_q.scale", &[0.5]).load(), Ok(()));
}

#[test]
fn scaled_positions() {
    let file = File::new(Format::I2S);
    let factor = |key: &str, factor: f32| file.clone().key(key, 6, &factor.to_le_bytes());
    let typed = |kind: &str, factor: f32| {
        let scaled = file.clone().key("~.rope.scaling.factor", 6, &factor.to_le_bytes());
        scaled.text("~.rope.scaling.type", kind)
    };
    for accepted in [typed("none", 4.0), typed("linear", 1.0), typed("linear", 0.0), factor("~.rope.scale_linear", 1.0)]
    {
        assert_eq!(accepted.load(), Ok(()));
    }
    check(vec![
        (
            "a factor without a type",
            factor("~.rope.scaling.factor", 4.0),
            &["`bitnet-b1.58.rope.scaling.factor`: expected 1", "found 4"],
        ),
        ("the older key", factor("~.rope.scale_linear", 4.0), &["`bitnet-b1.58.rope.scale_linear`", "found 4"]),
        ("linear", typed("linear", 4.0), &["rope.scaling.factor", "found 4"]),
        ("YaRN", typed("yarn", 1.0), &["rope.scaling.type", "found \"yarn\""]),
        ("longer queries", factor("~.rope.scaling.attn_factor", 0.5), &["rope.scaling.attn_factor", "found 0.5"]),
    ]);
}

/// The name of the tensor that the others overlap is not in every message in full, and there are not as many messages
/// as tensors.
#[test]
fn many_tensors_over_one_of_a_long_name() {
    let tensors = 20_000u64;
    let name = "n".repeat(65535);
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((tensors + 1).to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    let mut add = |name: &str, size: u64, offset: u64| {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend(24u32.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    };
    add(&name, 32 * tensors, 0);
    (0..tensors).for_each(|index| add(&format!("t{index}"), 8, 32 * index));
    bytes.resize(bytes.len().next_multiple_of(32) + 32 * usize::try_from(tensors).expect("small"), 0);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("x.gguf");
    fs::write(&file, &bytes).expect("written");
    super::few_short_problems(&file, tensors);
}

/// A key as long as is allowed, before an array of many texts: the head is read in the time that its bytes take.
#[test]
fn long_keys_before_many_values() {
    let (key, count) = ("k".repeat(65535), 4_000_000u64);
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend((key.len() as u64).to_le_bytes());
    bytes.extend(key.as_bytes());
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(8u32.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.resize(bytes.len() + 8 * usize::try_from(count).expect("small"), 0);
    let begin = std::time::Instant::now();
    let message = refused(Checkpoint::from_gguf("x.gguf", &bytes.into()), "no architecture");
    assert!(message.contains("general.architecture"), "{message}");
    // Copying the key for every text would be 262 GB.
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
    let mut longer = b"GGUF\x03\0\0\0".to_vec();
    longer.extend(0u64.to_le_bytes());
    longer.extend(1u64.to_le_bytes());
    longer.extend(65536u64.to_le_bytes());
    longer.resize(longer.len() + 65536 + 20, b'k');
    let message = refused(Checkpoint::from_gguf("x.gguf", &longer.into()), "a long key");
    assert!(message.contains("a metadata key of at most 65535 bytes, found 65536"), "{message}");
}
