//! An annotated decoder of two layers. Run it without tracing, then with it:
//!
//! ```sh
//! cargo run -p bitnet-trace --features trace --example decoder
//! BITNET_TRACE_DIR=traces/decoder cargo run -p bitnet-trace --features trace --example decoder
//! ```
//!
//! Both print the same tokens. The second writes one file for each tensor that an annotated function returns.

use bitnet_trace::{TraceContext, tap, traced};
use candle_core::{D, DType, Device, Result, Tensor};

const HIDDEN: u16 = 16;
const VOCABULARY: u16 = 32;
const LAYERS: u16 = 2;
const PROMPT: [u32; 3] = [3, 14, 15];
const STEPS: usize = 4;

struct Block {
    qkv: [Tensor; 3],
    up: Tensor,
    down: Tensor,
}

impl Block {
    /// `[seq, hidden]` in and out.
    #[traced(stage = "block_out")]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention(&norm(x)?)?)?;
        &x + self.feed_forward(&norm(&x)?)?
    }

    #[traced(stage = "attn_out")]
    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let [q, k, v] = [&self.qkv[0], &self.qkv[1], &self.qkv[2]].map(|weight| x.matmul(weight));
        let scores = (q?.matmul(&k?.t()?)? / 4.0)?.exp()?; // 4 is the root of HIDDEN
        let causal = Tensor::tril2(x.dim(0)?, DType::F32, x.device())?;
        let scores = (scores * causal)?;
        let weights = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
        tap("attn_weights", &weights); // a value inside a function
        weights.matmul(&v?)
    }

    #[traced(stage = "ffn_out", inputs(x))]
    fn feed_forward(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.up)?.relu()?.matmul(&self.down)
    }
}

#[traced]
fn norm(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?)
}

#[traced]
fn logits(x: &Tensor, embeddings: &Tensor) -> Result<Tensor> {
    x.narrow(0, x.dim(0)? - 1, 1)?.matmul(&embeddings.t()?)
}

fn main() -> Result<()> {
    let embeddings = weight(0, VOCABULARY, HIDDEN)?;
    let blocks = (0..LAYERS).map(block).collect::<Result<Vec<_>>>()?;

    let mut tokens = PROMPT.to_vec();
    for step in 0..STEPS {
        let _step = TraceContext::seq(step).with_tokens(0..tokens.len()).enter();
        let mut x = embeddings.index_select(&Tensor::new(&tokens[..], &Device::Cpu)?, 0)?;
        for (index, block) in blocks.iter().enumerate() {
            let _layer = TraceContext::layer(index).enter(); // for everything that the block calls
            x = block.forward(&x)?;
        }
        let next = logits(&norm(&x)?, &embeddings)?.argmax(D::Minus1)?;
        tokens.push(next.squeeze(0)?.to_scalar()?);
    }
    println!("tokens: {tokens:?}");

    match std::env::var("BITNET_TRACE_DIR") {
        _ if !cfg!(feature = "trace") => {
            println!("This build cannot trace. Add `--features trace`.");
        }
        Ok(directory) if !directory.is_empty() => {
            println!("The trace is in {directory}. Read it:");
            println!("  cargo run -p bitnet-trace --features trace --example read_trace -- {directory}");
            println!("Change the model, trace it into another directory, and compare the two:");
            println!("  cargo run -p bitnet-trace-cli -- diff {directory} OTHER_DIRECTORY");
        }
        _ => println!("Nothing was recorded. Set BITNET_TRACE_DIR to a directory and run again."),
    }
    Ok(())
}

fn block(index: u16) -> Result<Block> {
    let square = |part| weight(1 + 5 * index + part, HIDDEN, HIDDEN);
    let (up, down) = (weight(4 + 5 * index, HIDDEN, 4 * HIDDEN)?, weight(5 + 5 * index, 4 * HIDDEN, HIDDEN)?);
    Ok(Block { qkv: [square(0)?, square(1)?, square(2)?], up, down })
}

/// A made-up weight `[rows, columns]`, the same in every run.
fn weight(seed: u16, rows: u16, columns: u16) -> Result<Tensor> {
    let counted = Tensor::arange(0, u32::from(rows) * u32::from(columns), &Device::Cpu)?.to_dtype(DType::F32)?;
    let waves = (counted + 97.0 * f64::from(seed))?.sqr()?.sin()?;
    (waves / f64::from(rows).sqrt())?.reshape((usize::from(rows), usize::from(columns)))
}
