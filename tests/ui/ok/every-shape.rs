//! Every argument on functions of every shape, in this edition.

#[path = "../../fixtures/every_shape/lib.rs"]
mod every_shape;

fn main() {
    let _ = every_shape::split_two;
}
