//! Computes the embedded model a second time from the same weights, with a place in every stage for a fault.
#![allow(clippy::many_single_char_names)] // q, k, v, x, h: the paper's

use bitnet_models::Linear;
use bitnet_models::{Config, tiny};
use bitnet_trace::{TraceContext, tap};
use candle_core::{D, DType, Device, Result, Tensor};

/// Steps: the prompt, then this many tokens.
pub(crate) const DECODED: u32 = 4;

/// A fault, and its place: stage, layer, step.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) what: &'static str,
    pub(crate) stage: &'static str,
    pub(crate) layer: Option<usize>,
    pub(crate) step: usize,
}

struct Layer {
    projections: Vec<(&'static str, Linear)>,
    norms: Vec<(&'static str, Tensor)>,
}

/// The embedded model, computed stage by stage.
pub(crate) struct Model {
    config: Config,
    embeddings: Tensor,
    layers: Vec<Layer>,
    final_norm: Tensor,
    pub(crate) prompt: Vec<u32>,
    fault: Option<Fault>,
}

type Cache = Vec<Option<(Tensor, Tensor)>>;

impl Model {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        let checkpoint = tiny::checkpoint().expect("embedded");
        let config = checkpoint.config.clone();
        let weights = checkpoint.weights().at("model");
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let kv = config.num_key_value_heads * config.head_dim;
        let layers = (0..config.num_hidden_layers).map(|index| {
            let at = weights.at(&format!("layers.{index}"));
            let (attention, mlp) = (at.at("self_attn"), at.at("mlp"));
            let linear = |at: &bitnet_models::checkpoint::Weights<'_>, name: &'static str, rows, columns| {
                (name, at.linear(name, rows, columns).expect("a weight"))
            };
            let norm = |at: &bitnet_models::checkpoint::Weights<'_>, stage, name: &str, width| {
                (stage, at.f32(&format!("{name}.weight"), &[width]).expect("a weight"))
            };
            Layer {
                projections: vec![
                    linear(&attention, "q_proj", hidden, hidden),
                    linear(&attention, "k_proj", kv, hidden),
                    linear(&attention, "v_proj", kv, hidden),
                    linear(&attention, "o_proj", hidden, hidden),
                    linear(&mlp, "gate_proj", inner, hidden),
                    linear(&mlp, "up_proj", inner, hidden),
                    linear(&mlp, "down_proj", hidden, inner),
                ],
                norms: vec![
                    norm(&at, "attn_norm", "input_layernorm", hidden),
                    norm(&attention, "attn_sub_norm", "attn_sub_norm", hidden),
                    norm(&at, "ffn_norm", "post_attention_layernorm", hidden),
                    norm(&mlp, "ffn_sub_norm", "ffn_sub_norm", inner),
                ],
            }
        });
        Self {
            layers: layers.collect(),
            embeddings: weights.f32("embed_tokens.weight", &[config.vocab_size, hidden]).expect("a weight"),
            final_norm: weights.f32("norm.weight", &[hidden]).expect("a weight"),
            prompt: checkpoint.tokenizer().and_then(|tokenizer| tokenizer.encode("12+34=")).expect("a prompt"),
            config,
            fault,
        }
    }

    /// The fault of this stage, if it has one.
    fn fault(&self, stage: &str, layer: Option<usize>, step: usize) -> &'static str {
        match self.fault {
            Some(fault) if (fault.stage, fault.layer, fault.step) == (stage, layer, step) => fault.what,
            _ => "",
        }
    }

    pub(crate) fn run(&self) -> Result<()> {
        let mut cache: Cache = vec![None; self.layers.len()];
        let mut position = 0;
        for step in 0..=DECODED as usize {
            let tokens = if step == 0 { self.prompt.clone() } else { vec![step as u32 + 3] };
            let _step = TraceContext::seq(step).with_tokens(position..position + tokens.len()).enter();
            self.forward(&tokens, step, position, &mut cache)?;
            position += tokens.len();
        }
        Ok(())
    }

    fn forward(&self, tokens: &[u32], step: usize, position: usize, cache: &mut Cache) -> Result<()> {
        let what = self.fault("embeddings", None, step);
        let tokens: Vec<u32> =
            tokens.iter().map(|token| if what == "next token" { token + 1 } else { *token }).collect();
        let mut x = self.embeddings.index_select(&Tensor::new(tokens, &Device::Cpu)?, 0)?.unsqueeze(0)?;
        if what == "scaled by the root of the width" {
            x = (x * (self.config.hidden_size as f64).sqrt())?;
        }
        tap("embeddings", &x);
        for (index, cache) in cache.iter_mut().enumerate() {
            let _layer = TraceContext::layer(index).enter();
            x = self.block(&x, index, step, position, cache)?;
        }
        let what = self.fault("final_norm", None, step);
        let normed = if what == "missing" { x.clone() } else { norm(&x, &self.final_norm, self.config.rms_norm_eps)? };
        tap("final_norm", &normed);
        let what = self.fault("logits", None, step);
        let mut logits = normed.broadcast_matmul(&self.embeddings.t()?)?;
        match what {
            "twice" => logits = (logits * 2.0)?,
            "shifted by a token" => {
                let tokens = logits.dim(1)?;
                logits = Tensor::cat(&[logits.narrow(1, 0, 1)?, logits.narrow(1, 0, tokens - 1)?], 1)?;
            }
            "permuted vocabulary" => {
                let half = logits.dim(2)? / 2;
                let rest = logits.dim(2)? - half;
                logits = Tensor::cat(&[logits.narrow(2, half, rest)?, logits.narrow(2, 0, half)?], 2)?;
            }
            "one channel off" => {
                let mut values: Vec<f32> = logits.flatten_all()?.to_vec1()?;
                values.iter_mut().skip(3).step_by(logits.dim(2)?).for_each(|value| *value += 1.0);
                logits = Tensor::from_vec(values, logits.dims(), &Device::Cpu)?;
            }
            _ => {}
        }
        tap("logits", &logits);
        Ok(())
    }

    fn linear(&self, stage: &'static str, x: &Tensor, layer: usize, step: usize) -> Result<Tensor> {
        let what = self.fault(stage, Some(layer), step);
        let weight = |stage| &self.layers[layer].projections.iter().find(|(name, _)| *name == stage).expect("there").1;
        let other = match stage {
            "gate_proj" => "up_proj",
            "up_proj" => "gate_proj",
            stage => stage,
        };
        let x = if what == "one scale for all tokens" { with_loud_row(x)? } else { x.clone() };
        let forward = |stage| weight(stage).forward(&x).map_err(candle_core::Error::wrap);
        let mut y = forward(if what == "swapped" { other } else { stage })?;
        if what == "one scale for all tokens" {
            y = y.narrow(1, 0, y.dim(1)? - 1)?;
        }
        match what {
            "scale inverted" => y = (y * 0.125)?,
            "scale missing" => y = (y * 37.5)?,
            "other sign" => y = y.neg()?,
            "transposed weight" => y = transposed_weight(&x, weight(stage))?,
            "halves of the heads exchanged" => {
                let half = y.dim(2)? / 2;
                y = Tensor::cat(&[y.narrow(2, half, half)?, y.narrow(2, 0, half)?], 2)?;
            }
            "last channel lost" => {
                let width = y.dim(2)?;
                let kept = y.narrow(2, 0, width - 1)?;
                y = Tensor::cat(&[kept.clone(), kept.narrow(2, 0, 1)?.zeros_like()?], 2)?;
            }
            "all zero" => y = y.zeros_like()?,
            "other shape" => y = y.transpose(1, 2)?.contiguous()?,
            "other type" => y = y.to_dtype(DType::U32)?,
            _ => {}
        }
        if what != "not recorded" {
            tap(stage, &y);
        }
        Ok(match what {
            "other shape" => y.transpose(1, 2)?,
            "other type" => y.to_dtype(DType::F32)?,
            _ => y,
        })
    }

    fn normed(&self, stage: &'static str, x: &Tensor, layer: usize, step: usize) -> Result<Tensor> {
        let what = self.fault(stage, Some(layer), step);
        let weight = &self.layers[layer].norms.iter().find(|(name, _)| *name == stage).expect("there").1;
        let eps = if what == "large epsilon" { 0.5 } else { self.config.rms_norm_eps };
        let mut y = match what {
            "missing" => x.clone(),
            "mean taken away" => norm(&x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?, weight, eps)?,
            "over all tokens" => {
                let mean = x.sqr()?.mean_all()?;
                x.broadcast_div(&(mean + eps)?.sqrt()?)?.broadcast_mul(weight)?
            }
            _ => norm(x, weight, eps)?,
        };
        match what {
            "NaN" => y = with_element(&y, 5, |_| f32::NAN)?,
            "infinity" => y = with_element(&y, 7, |_| f32::INFINITY)?,
            "one sign" => y = with_element(&y, largest(&y)?, |value| -value)?,
            "rounded to f16" => y = y.to_dtype(DType::F16)?.to_dtype(DType::F32)?,
            "rounded to bf16" => y = y.to_dtype(DType::BF16)?.to_dtype(DType::F32)?,
            _ => {}
        }
        tap(stage, &y);
        Ok(y)
    }

    fn rope(
        &self,
        stage: &'static str,
        x: &Tensor,
        heads: usize,
        layer: usize,
        step: usize,
        position: usize,
    ) -> Result<Tensor> {
        let what = self.fault(stage, Some(layer), step);
        let (batch, tokens, _) = x.dims3()?;
        let x = x.reshape((batch, tokens, heads, ()))?.transpose(1, 2)?.contiguous()?;
        let theta = self.config.rope_theta * if what == "wrong base" { 0.1 } else { 1.0 };
        let half = self.config.head_dim / 2;
        let first = position + usize::from(what == "position off by one");
        let angles = (first..first + tokens).flat_map(|position| {
            (0..half).map(move |i| position as f32 * theta.powf(-((2 * i) as f64) / (2 * half) as f64) as f32)
        });
        let angles = Tensor::from_vec(angles.collect::<Vec<f32>>(), (tokens, half), &Device::Cpu)?;
        let (cos, sin) = (angles.cos()?, angles.sin()?);
        let y = match what {
            "missing" => x,
            "interleaved" => candle_nn::rotary_emb::rope_i(&x, &cos, &sin)?,
            "turned backwards" => candle_nn::rotary_emb::rope(&x, &cos, &sin.neg()?)?,
            _ => candle_nn::rotary_emb::rope(&x, &cos, &sin)?,
        };
        tap(stage, &y);
        Ok(y)
    }

    fn block(
        &self,
        x: &Tensor,
        layer: usize,
        step: usize,
        position: usize,
        cache: &mut Option<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let (heads, kv_heads, head_dim) =
            (self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim);
        let normed = self.normed("attn_norm", x, layer, step)?;
        let q = self.linear("q_proj", &normed, layer, step)?;
        let k = self.linear("k_proj", &normed, layer, step)?;
        let v = self.linear("v_proj", &normed, layer, step)?;
        let q = self.rope("q_rope", &q, heads, layer, step, position)?;
        let k = self.rope("k_rope", &k, kv_heads, layer, step, position)?;
        let (batch, tokens, _) = v.dims3()?;
        let v = v.reshape((batch, tokens, kv_heads, head_dim))?.transpose(1, 2)?.contiguous()?;
        let what = self.fault("attn_scores_softmax", Some(layer), step);
        let (mut k, mut v) = match cache.take() {
            Some((before_k, before_v)) => (Tensor::cat(&[before_k, k], 2)?, Tensor::cat(&[before_v, v], 2)?),
            None => (k, v),
        };
        *cache = Some((k.clone(), v.clone()));
        if what == "stale key" {
            k = stale(&k)?;
        }
        let probabilities = self.probabilities(&q, &k, position, what)?;
        tap("attn_scores_softmax", &probabilities);
        let what = self.fault("attn_ctx", Some(layer), step);
        if what == "stale value" {
            v = stale(&v)?;
        }
        let context = probabilities.matmul(&repeat(&v, heads / kv_heads, false)?)?;
        let context = if what == "heads not put back" {
            context.reshape((batch, tokens, heads * head_dim))?
        } else {
            context.transpose(1, 2)?.flatten_from(2)?
        };
        tap("attn_ctx", &context);
        let attended = self.linear("o_proj", &self.normed("attn_sub_norm", &context, layer, step)?, layer, step)?;
        let what = self.fault("attn_residual", Some(layer), step);
        let h = if what == "missing" { attended } else { (x + attended)? };
        tap("attn_residual", &h);
        let normed = self.normed("ffn_norm", &h, layer, step)?;
        let gate = self.linear("gate_proj", &normed, layer, step)?;
        let up = self.linear("up_proj", &normed, layer, step)?;
        let what = self.fault("ffn_act", Some(layer), step);
        let activation = match what {
            "not squared" => (gate.relu()? * up)?,
            "silu" => (candle_nn::ops::silu(&gate)? * up)?,
            "all zero" => up.zeros_like()?,
            "gate alone" => gate.relu()?.sqr()?,
            _ => (gate.relu()?.sqr()? * up)?,
        };
        tap("ffn_act", &activation);
        let fed = self.linear("down_proj", &self.normed("ffn_sub_norm", &activation, layer, step)?, layer, step)?;
        let what = self.fault("block_out", Some(layer), step);
        let out = match what {
            "missing" => fed,
            "residual of the input" => (x + fed)?,
            _ => (h + fed)?,
        };
        tap("block_out", &out);
        Ok(out)
    }

    fn probabilities(&self, q: &Tensor, k: &Tensor, position: usize, what: &str) -> Result<Tensor> {
        let groups = self.config.num_attention_heads / self.config.num_key_value_heads;
        let k = repeat(k, groups, what == "heads repeated in turn")?;
        let scale = if what == "scale missing" { 1.0 } else { (self.config.head_dim as f64).powf(-0.5) };
        let scores = (q.matmul(&k.t()?.contiguous()?)? * scale)?;
        let (tokens, positions) = (q.dim(2)?, k.dim(2)?);
        let last = |i: usize| match what {
            "no mask" => positions,
            "mask off by one" => position + i + 1,
            _ => position + i,
        };
        let mask = (0..tokens)
            .flat_map(|i| (0..positions).map(move |j| (i, j)))
            .map(|(i, j)| if j <= last(i) { 0.0 } else { f32::NEG_INFINITY });
        let mask = Tensor::from_vec(mask.collect::<Vec<f32>>(), (tokens, positions), &Device::Cpu)?;
        candle_nn::ops::softmax_last_dim(&scores.broadcast_add(&mask)?)
    }
}

fn norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)?.broadcast_mul(weight)
}

/// Repeats each key-value head for its group of query heads; "in turn" is the wrong order.
fn repeat(x: &Tensor, groups: usize, in_turn: bool) -> Result<Tensor> {
    let (batch, heads, positions, head_dim) = x.dims4()?;
    let (dim, shape) = if in_turn {
        (1, (batch, groups, heads, positions, head_dim))
    } else {
        (2, (batch, heads, groups, positions, head_dim))
    };
    x.unsqueeze(dim)?.expand(shape)?.reshape((batch, heads * groups, positions, head_dim))
}

/// Replaces the last row with the last but one.
fn stale(x: &Tensor) -> Result<Tensor> {
    let positions = x.dim(2)?;
    Tensor::cat(&[x.narrow(2, 0, positions - 1)?, x.narrow(2, positions - 2, 1)?], 2)
}

fn with_element(x: &Tensor, at: usize, change: impl Fn(f32) -> f32) -> Result<Tensor> {
    let mut values: Vec<f32> = x.flatten_all()?.to_vec1()?;
    values[at] = change(values[at]);
    Tensor::from_vec(values, x.dims(), &Device::Cpu)
}

fn largest(x: &Tensor) -> Result<usize> {
    Ok(x.abs()?.flatten_all()?.argmax(0)?.to_scalar::<u32>()? as usize)
}

/// Imitates one scale for all tokens: rounds every row to the coarse steps of that scale, and adds a row three times as
/// large.
fn with_loud_row(x: &Tensor) -> Result<Tensor> {
    let loud = (x.abs()?.max_keepdim(1)? * 3.0)?;
    let coarse = ((x / 0.05)?.round()? * 0.05)?;
    Tensor::cat(&[coarse, loud], 1)
}

fn transposed_weight(x: &Tensor, weight: &Linear) -> Result<Tensor> {
    // The columns of a square weight are its products with the unit vectors.
    let width = x.dim(2)?;
    let unit = Tensor::eye(width, DType::F32, &Device::Cpu)?.unsqueeze(0)?;
    let dense = weight.forward(&unit).map_err(candle_core::Error::wrap)?.squeeze(0)?;
    x.broadcast_matmul(&dense.t()?.contiguous()?)
}
