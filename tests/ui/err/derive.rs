//! The derive reports each mistake at its place; bounds on the types still hold.

use bitnet_trace::Traced;
use candle_core::Tensor;

#[derive(Traced)]
struct UnknownKey {
    #[traced(skpi)]
    q: Tensor,
}

#[derive(Traced)]
struct Both {
    #[traced(skip, label = "q")]
    q: Tensor,
}

#[derive(Traced)]
struct Empty {
    #[traced(label = "")]
    q: Tensor,
}

#[derive(Traced)]
struct SameLabel {
    q: Tensor,
    #[traced(label = "q")]
    k: Tensor,
}

#[derive(Traced)]
union Union {
    q: std::mem::ManuallyDrop<Tensor>,
}

#[derive(Traced)]
#[traced(label = "x")]
struct OnTheType(Tensor);

fn bounded<T: Traced>() {}

fn main() {
    bounded::<UnknownKey>();
    bounded::<Both>();
    bounded::<Empty>();
    bounded::<SameLabel>();
    bounded::<Union>();
    bounded::<OnTheType>();
}
