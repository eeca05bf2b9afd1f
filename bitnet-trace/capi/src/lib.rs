#![doc = include_str!("../README.md")]

mod border;
mod scope;
mod session;
mod tensor;

pub use border::{Status, bt_last_error, bt_version};
pub use scope::{bt_scope_enter, bt_scope_enter_request, bt_scope_enter_tokens, bt_scope_leave};
pub use session::{
    bt_annotate, bt_annotate_json, bt_enabled, bt_flush, bt_session_enter, bt_session_finish, bt_session_leave,
    bt_session_start, bt_wants,
};
pub use tensor::{Dtype, bt_record};
