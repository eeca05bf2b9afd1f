//! Each error has a hint about what to do instead.

use bitnet_trace::traced;
use candle_core::Tensor;

struct Layer(Tensor);

#[traced(stage = "layer")]
impl Layer {
    fn forward(&self) -> Tensor {
        self.0.clone()
    }
}

#[traced(stage = "module")]
mod module {
    pub fn used() {}
}

#[traced(stage = "type")]
struct Type;

#[traced(stage = "trait")]
trait Trait {}

#[traced(stage = "constant")]
const CONSTANT: usize = 3;

#[traced(stage = "import")]
use candle_core::DType;

fn main() {
    // All of them are still there.
    let _ = (Layer::forward, Type, CONSTANT, DType::F32);
    module::used();
    struct Implements;
    impl Trait for Implements {}
}
