//! What is written down between the two sides, byte for byte.
//!
//! | file | holds |
//! |---|---|
//! | `frame.rs` | what a message on the control pipe is wrapped in |
//! | `message/` | the messages: requests and replies |
//! | `boot.rs` | what the VMM tells the guest before its first instruction |
//! | `layout.rs` | the memory map |
//! | `register.rs` | the registers of the MMIO page |
//! | `input_request.rs` | requests for standard input |
//! | `log_record.rs` | log records on the log pipe |
//! | `task_table.rs` | what each task of a guest waits for, for whoever looks at it |

pub mod boot;
pub mod frame;
pub mod input_request;
pub mod layout;
pub mod log_record;
pub mod message;
pub mod register;
pub mod task_table;
