//! The whole model: embeddings, blocks, final norm, and the head that shares the embeddings.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use bitnet_trace::{TraceContext, traced};
use candle_core::Tensor;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::block::Block;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernels::{FloatMatrix, Kernel, Level, awake};
use crate::kv_cache::KvCache;
use crate::linear::dense;
use crate::rms_norm::RmsNorm;
use crate::rope::Rope;
use crate::tensors::tensor;

/// A BitNet b1.58 language model in float32 on the CPU.
#[derive(Debug)]
pub struct Transformer {
    config: Config,
    /// `[vocabulary, hidden]`
    embeddings: FloatMatrix,
    blocks: Vec<Block>,
    final_norm: RmsNorm,
    /// `[vocabulary, hidden]`, if it is not the embeddings.
    head: Option<FloatMatrix>,
    /// The threads that compute; `None`: those of the current rayon pool.
    threads: Option<Arc<ThreadPool>>,
    kernel: Level,
}

/// The tokens whose logits are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Logits {
    All,
    Last,
}

impl Transformer {
    /// Reads the weights of a checkpoint.
    ///
    /// # Errors
    ///
    /// If a tensor is missing, has another shape or type than the configuration calls for, or is left over.
    pub fn load(checkpoint: &Checkpoint) -> Result<Self> {
        let config = checkpoint.config.clone();
        let all = checkpoint.weights();
        let weights = all.at("model");
        let embeddings = weights.matrix("embed_tokens.weight", config.vocab_size, config.hidden_size)?;
        let blocks = (0..config.num_hidden_layers)
            .map(|index| Block::load(&weights.at(&format!("layers.{index}")), &config))
            .collect::<Result<_>>()?;
        let final_norm = weights.rms_norm("norm", config.hidden_size, &config)?;
        let untied = !config.tie_word_embeddings;
        let head = || all.matrix("lm_head.weight", config.vocab_size, config.hidden_size);
        let head = untied.then(head).transpose()?;
        all.nothing_left(&config)?;
        Ok(Self { config, embeddings, blocks, final_norm, head, threads: None, kernel: Level::best() })
    }

    /// Computes on a pool of this many threads of its own; without it, on the current rayon pool. The numbers are the
    /// same.
    ///
    /// # Errors
    ///
    /// If the system does not give so many threads.
    pub fn with_threads(self, threads: usize) -> Result<Self> {
        let name = |index| format!("bitnet-{index}");
        let pool = ThreadPoolBuilder::new().num_threads(threads.max(1)).thread_name(name).build();
        let pool = pool.map_err(|error| Error::Threads { threads, source: system_error(&error) })?;
        Ok(Self { threads: Some(Arc::new(pool)), ..self })
    }

    /// Computes with these instructions instead of the fastest that the processor has. The numbers are the same.
    ///
    /// # Errors
    ///
    /// If the processor lacks them.
    pub fn with_kernel(self, kernel: Kernel) -> Result<Self> {
        Ok(Self { kernel: Level::new(kernel).ok_or(Error::Kernel(kernel))?, ..self })
    }

    /// The instructions that this model computes with.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.kernel.kernel()
    }

    /// Bytes of weights that are read to compute one token: all linear layers and the head.
    #[must_use]
    pub fn bytes_per_token(&self) -> usize {
        let head = self.head.as_ref().unwrap_or(&self.embeddings);
        self.blocks.iter().map(Block::bytes).sum::<usize>() + head.bytes()
    }

    /// The sizes and constants of the model.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Prefill: computes all tokens of a prompt at once, at the positions after those in the cache. Returns
    /// the logits of every token, `[1, tokens, vocabulary]`.
    ///
    /// # Errors
    ///
    /// If there is no token, there are more tokens than the context has room for, or an id is outside the
    /// vocabulary.
    pub fn forward_full(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.forward(tokens, cache, Logits::All)
    }

    /// As [`forward_full`](Self::forward_full), but returns only the logits of the last token, `[1, 1, vocabulary]`: the
    /// others take time, and memory of the size of the vocabulary for each token.
    ///
    /// # Errors
    ///
    /// Those of [`forward_full`](Self::forward_full).
    pub fn forward_last(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        self.forward(tokens, cache, Logits::Last)
    }

    /// Decode: computes one token at the position after those in the cache. Returns its logits,
    /// `[1, 1, vocabulary]`.
    ///
    /// # Errors
    ///
    /// If the context is full, or the id is outside the vocabulary.
    pub fn forward_incremental(&self, token: u32, cache: &mut KvCache) -> Result<Tensor> {
        self.forward(&[token], cache, Logits::All)
    }

    fn forward(&self, tokens: &[u32], cache: &mut KvCache, logits: Logits) -> Result<Tensor> {
        self.check(tokens, cache)?;
        // The scope and the session of the trace are those of the calling thread.
        let context = TraceContext::current();
        let compute = || context.in_scope(|| self.kernel.in_scope(|| self.compute(tokens, cache, logits)));
        match &self.threads {
            Some(threads) => threads.install(|| awake(compute)),
            None => awake(compute),
        }
    }

    fn compute(&self, tokens: &[u32], cache: &mut KvCache, logits: Logits) -> Result<Tensor> {
        let position = cache.positions;
        let end = position + tokens.len();
        let _step = TraceContext::seq(cache.steps).with_tokens(position..end).enter();

        let rope = Rope::new(&self.config, position, tokens.len());
        let mut x = self.embed(tokens)?;
        for (index, (block, cache)) in self.blocks.iter().zip(cache.layers_mut()).enumerate() {
            let _layer = TraceContext::layer(index).enter();
            x = block.forward(&x, &rope, cache)?;
        }
        let mut x = self.final_norm(&x)?;
        if logits == Logits::Last {
            x = x.narrow(1, tokens.len() - 1, 1)?.contiguous()?;
        }
        let logits = self.logits(&x)?;

        // Only now: a call that fails half way leaves the cache as it was.
        cache.positions = end;
        cache.steps += 1;
        Ok(logits)
    }

    fn check(&self, tokens: &[u32], cache: &mut KvCache) -> Result<()> {
        let (position, layers) = (cache.positions, cache.layers_mut().len());
        if layers != self.blocks.len() {
            return Err(Error::OtherCache { layers, blocks: self.blocks.len() });
        }
        let context = self.config.max_position_embeddings.saturating_sub(position);
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if tokens.len() > context {
            return Err(Error::PromptTooLong { tokens: tokens.len(), context });
        }
        let vocab_size = self.config.vocab_size;
        match tokens.iter().position(|&id| id as usize >= vocab_size) {
            Some(at) => Err(Error::TokenOutOfRange { id: tokens[at], position: position + at, vocab_size }),
            None => Ok(()),
        }
    }

    /// Looks up one row of the embedding matrix for each token: `[1, tokens, hidden]`.
    #[traced(stage = "embeddings")]
    fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        let width = self.config.hidden_size;
        let mut rows = vec![0.0; tokens.len() * width];
        for (row, id) in rows.chunks_exact_mut(width).zip(tokens) {
            self.embeddings.row(*id as usize, row);
        }
        tensor(rows, (1, tokens.len(), width))
    }

    #[traced(stage = "final_norm")]
    fn final_norm(&self, x: &Tensor) -> Result<Tensor> {
        self.final_norm.forward(x)
    }

    /// The head is the embedding matrix, unless the checkpoint has one of its own: `[1, tokens, hidden]` to `[1, tokens, vocabulary]`.
    #[traced(stage = "logits")]
    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        dense(self.head.as_ref().unwrap_or(&self.embeddings), x)
    }
}

/// The system's reason, once: the message of rayon's error is that of its source.
fn system_error(error: &ThreadPoolBuildError) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let code = source.and_then(io::Error::raw_os_error);
    code.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::io;

    use rayon::ThreadPoolBuilder;

    use super::{Transformer, system_error};
    use crate::kv_cache::KvCache;
    use crate::tiny;

    #[test]
    fn the_system_s_reason_is_given_once() {
        let pool = ThreadPoolBuilder::new().num_threads(1).spawn_handler(|_| Err(io::Error::from_raw_os_error(11)));
        let reason = system_error(&pool.build().map(drop).expect_err("no thread"));
        assert_eq!(reason.raw_os_error(), Some(11));
        assert!(std::error::Error::source(&reason).is_none());
    }

    #[test]
    fn a_call_that_fails_in_the_second_block_leaves_the_cache_as_it_was() {
        let checkpoint = tiny::checkpoint().expect("embedded");
        let model = Transformer::load(&checkpoint).expect("all tensors");
        let mut broken = Transformer::load(&checkpoint).expect("all tensors");
        broken.blocks[1].of_another_width();

        let mut cache = KvCache::new(&model.config);
        model.forward_full(&[1, 2, 3], &mut cache).expect("prefill");
        let before = (cache.positions(), cache.steps());
        broken.forward_full(&[4, 5], &mut cache).expect_err("the second block fails");
        assert_eq!((cache.positions(), cache.steps()), before);

        let mut fresh = KvCache::new(&model.config);
        model.forward_full(&[1, 2, 3], &mut fresh).expect("prefill");
        let next = |cache: &mut KvCache| {
            let logits = model.forward_incremental(6, cache).expect("a step");
            logits.flatten_all().and_then(|logits| logits.to_vec1::<f32>()).expect("F32")
        };
        assert_eq!(next(&mut cache), next(&mut fresh));
    }
}
