//! Lifetimes are checked as in the plain function.

use bitnet_trace::traced;
use candle_core::Tensor;

struct Cache {
    key: Tensor,
}

impl Cache {
    #[traced(stage = "shorter")]
    fn shorter<'a>(&self, x: &'a Tensor) -> &'a Tensor {
        let _ = x;
        &self.key
    }

    #[traced(stage = "local")]
    fn local(&self) -> &Tensor {
        let local = self.key.clone();
        &local
    }

    #[traced(stage = "assigned")]
    fn assigned(&self, x: Tensor) -> &Tensor {
        self.key = x;
        &self.key
    }
}

fn main() {}
