//! A small decoder with a choice of the order of summation, the types and the chunks.
#![allow(clippy::many_single_char_names)] // q, k, v, x, h: the paper's

use bitnet_trace::{TraceContext, tap};
use candle_core::{D, DType, Device, Result, Tensor};

use crate::{CHUNKS, POSITIONS};

const VOCABULARY: usize = 96;
const HIDDEN: usize = 64;
const INNER: usize = 96;
const HEADS: usize = 4;
const WIDTH: usize = HIDDEN / HEADS;
const LAYERS: usize = 2;

/// In which order the products of a matrix product are added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Order {
    Natural,
    Reversed,
    /// The inner dimension in this many parts, each summed alone and then all together.
    Split(usize),
    /// First every n-th element, then their neighbours, and so on.
    Interleaved(usize),
    /// All in f64, rounded at the end.
    Double,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    pub(crate) order: Order,
    pub(crate) dtype: DType,
    /// Tensors are recorded as f32, whatever type they were computed in.
    pub(crate) upcast: bool,
    /// Inputs of projections are rounded to 8 bits a token, as in BitNet.
    pub(crate) quantised: bool,
    pub(crate) chunks: &'static [usize],
    /// A stage that is made 3 % too large.
    pub(crate) fault: Option<&'static str>,
}

impl Default for Variant {
    fn default() -> Self {
        let (order, dtype) = (Order::Natural, DType::F32);
        Self { order, dtype, upcast: false, quantised: false, chunks: CHUNKS, fault: None }
    }
}

pub(crate) struct Decoder {
    variant: Variant,
    state: u64,
}

impl Decoder {
    pub(crate) fn new(variant: &Variant) -> Self {
        Self { variant: *variant, state: 42 }
    }

    /// Random weights that bf16 holds exactly, as those of published checkpoints.
    fn weight(&mut self, rows: usize, columns: usize, scale: f32) -> Result<Tensor> {
        let values = (0..rows * columns).map(|_| {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let uniform = f32::from(u16::try_from(self.state >> 48).expect("16 bits")) / 32768.0 - 1.0;
            uniform * scale
        });
        let weight = Tensor::from_iter(values, &Device::Cpu)?.reshape((rows, columns))?;
        weight.to_dtype(DType::BF16)?.to_dtype(self.variant.dtype)
    }

    fn record(&self, stage: &'static str, x: Tensor) -> Result<Tensor> {
        let x = if self.variant.fault == Some(stage) { (x * 1.03)? } else { x };
        tap(stage, &if self.variant.upcast { x.to_dtype(DType::F32)? } else { x.clone() });
        Ok(x)
    }

    /// Multiplies `x` `[.., m, k]` by `y` `[.., k, n]`.
    fn product(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let inner = x.dim(D::Minus1)?;
        let parts = |places: Vec<Vec<u32>>| {
            let mut sum: Option<Tensor> = None;
            for places in places {
                let places = Tensor::new(places, &Device::Cpu)?;
                let (rank_x, rank_y) = (x.rank() - 1, y.rank() - 2);
                let (x, y) = (x.contiguous()?, y.contiguous()?);
                let part = x.index_select(&places, rank_x)?.matmul(&y.index_select(&places, rank_y)?)?;
                sum = Some(match sum {
                    Some(sum) => (sum + part)?,
                    None => part,
                });
            }
            sum.ok_or_else(|| candle_core::Error::msg("an empty product"))
        };
        let all = 0..u32::try_from(inner).map_err(candle_core::Error::wrap)?;
        match self.variant.order {
            Order::Natural => x.contiguous()?.matmul(&y.contiguous()?),
            Order::Reversed => parts(vec![all.rev().collect()]),
            Order::Split(count) => {
                let all: Vec<u32> = all.collect();
                parts(all.chunks(inner.div_ceil(count)).map(<[u32]>::to_vec).collect())
            }
            Order::Interleaved(step) => {
                parts((0..step).map(|from| all.clone().skip(from).step_by(step).collect()).collect())
            }
            Order::Double => {
                let double = |x: &Tensor| x.to_dtype(DType::F64)?.contiguous();
                double(x)?.matmul(&double(y)?)?.to_dtype(x.dtype())
            }
        }
    }

    /// Computes a projection with a weight `[out, in]`.
    fn project(&self, stage: &'static str, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let x = if self.variant.quantised { quantise(x)? } else { x.clone() };
        let weight = weight.t()?.unsqueeze(0)?;
        self.record(stage, self.product(&x, &weight)?)
    }

    fn norm(&self, stage: &'static str, x: &Tensor) -> Result<Tensor> {
        let wide = x.to_dtype(DType::F32)?;
        let ones = Tensor::ones((HIDDEN, 1), DType::F32, &Device::Cpu)?.unsqueeze(0)?;
        let mean = (self.product(&wide.sqr()?, &ones)? / 64.0)?;
        self.record(stage, wide.broadcast_div(&(mean + 1e-5)?.sqrt()?)?.to_dtype(x.dtype())?)
    }

    /// Computes every position, in the chunks of the variant.
    pub(crate) fn run(mut self) -> Result<()> {
        let embeddings = self.weight(VOCABULARY, HIDDEN, 1.0)?;
        let mut layers = Vec::new();
        for _ in 0..LAYERS {
            let square = |this: &mut Self| this.weight(HIDDEN, HIDDEN, 0.2);
            let attention = [square(&mut self)?, square(&mut self)?, square(&mut self)?, square(&mut self)?];
            let ffn =
                [self.weight(INNER, HIDDEN, 0.2)?, self.weight(INNER, HIDDEN, 0.2)?, self.weight(HIDDEN, INNER, 0.2)?];
            layers.push((attention, ffn));
        }
        let mut cache: Vec<Option<(Tensor, Tensor)>> = vec![None; LAYERS];
        let mut at = 0;
        for (step, count) in self.variant.chunks.iter().enumerate() {
            let _step = TraceContext::seq(step).with_tokens(at..at + count).enter();
            let ids: Vec<u32> = (at..at + count)
                .map(|position| u32::try_from(position * 31 % 96))
                .collect::<std::result::Result<_, _>>()
                .map_err(candle_core::Error::wrap)?;
            let x = embeddings.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?.unsqueeze(0)?;
            let mut x = self.record("embeddings", x)?;
            for (layer, ((attention, ffn), cache)) in layers.iter().zip(&mut cache).enumerate() {
                let _layer = TraceContext::layer(layer).enter();
                let h = self.attend(&x, attention, at, cache)?;
                x = self.feed_forward(&h, ffn)?;
            }
            let x = self.norm("final_norm", &x)?;
            self.project("logits", &x, &embeddings)?;
            at += count;
        }
        assert_eq!(at, POSITIONS);
        Ok(())
    }

    fn attend(
        &self,
        x: &Tensor,
        weights: &[Tensor; 4],
        at: usize,
        cache: &mut Option<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let normed = self.norm("attn_norm", x)?;
        let heads = |x: Tensor| x.reshape((1, (), HEADS, WIDTH))?.transpose(1, 2)?.contiguous();
        let q = heads(self.project("q_proj", &normed, &weights[0])?)?;
        let k = heads(self.project("k_proj", &normed, &weights[1])?)?;
        let v = heads(self.project("v_proj", &normed, &weights[2])?)?;
        let (k, v) = match cache.take() {
            Some((before, values)) => (Tensor::cat(&[&before, &k], 2)?, Tensor::cat(&[&values, &v], 2)?),
            None => (k, v),
        };
        *cache = Some((k.clone(), v.clone()));
        let scores = (self.product(&q, &k.t()?)? / 4.0)?;
        let (count, known) = (q.dim(2)?, k.dim(2)?);
        let mask: Vec<f32> = (0..count)
            .flat_map(|row| (0..known).map(move |column| if column > at + row { f32::NEG_INFINITY } else { 0.0 }))
            .collect();
        let mask = Tensor::from_vec(mask, (count, known), &Device::Cpu)?.to_dtype(scores.dtype())?;
        let weights_of = candle_nn::ops::softmax_last_dim(&scores.broadcast_add(&mask)?)?;
        let weights_of = self.record("attn_scores_softmax", weights_of)?;
        let context = self.product(&weights_of, &v)?.transpose(1, 2)?.reshape((1, count, HIDDEN))?;
        let context = self.record("attn_ctx", context)?;
        let out = self.project("o_proj", &context, &weights[3])?;
        self.record("attn_residual", (out + x)?)
    }

    fn feed_forward(&self, h: &Tensor, weights: &[Tensor; 3]) -> Result<Tensor> {
        let normed = self.norm("ffn_norm", h)?;
        let gate = self.project("gate_proj", &normed, &weights[0])?;
        let up = self.project("up_proj", &normed, &weights[1])?;
        let inner = self.record("ffn_act", (gate.relu()?.sqr()? * up)?)?;
        let out = self.project("down_proj", &inner, &weights[2])?;
        self.record("block_out", (out + h)?)
    }
}

/// Rounds each token to 255 steps of its largest magnitude.
fn quantise(x: &Tensor) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let scale = (wide.abs()?.max_keepdim(D::Minus1)?.clamp(1e-5f32, f32::MAX)? / 127.0)?;
    wide.broadcast_div(&scale)?.round()?.broadcast_mul(&scale)?.to_dtype(x.dtype())
}
