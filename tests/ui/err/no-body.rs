//! A required method has nothing to run; its provided neighbours are fine.

use bitnet_trace::traced;
use candle_core::Tensor;

trait Norm {
    #[traced(stage = "norm")]
    fn norm(&self, x: &Tensor) -> Tensor;

    #[traced(stage = "copy")]
    fn copy(&self, x: &Tensor) -> Tensor {
        self.norm(x)
    }
}

fn main() {}
