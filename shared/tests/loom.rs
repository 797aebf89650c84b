//! Models of the ring, of notification and of a monitor's end, explored by loom in
//! every order that the memory model allows, within the bounds that each test states.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p arca-shared --test loom
//! ```
//!
//! A model that cannot fail proves nothing: each is run again, in a process of
//! its own, with a bug planted in it, and must fail.

#![cfg(loom)]

#[path = "loom/notify.rs"]
mod notify;
#[path = "loom/request.rs"]
mod request;
#[path = "loom/ring.rs"]
mod ring;

use loom::sync::{Condvar, Mutex};
use std::process::{Command, Stdio};

/// A park with a token, as the VMM has it.
#[derive(Default)]
struct Park {
    token: Mutex<bool>,
    wake: Condvar,
}

impl Park {
    fn park(&self) {
        let mut token = self.token.lock().expect("no thread panics with it");
        while !*token {
            token = self.wake.wait(token).expect("no thread panics with it");
        }
        *token = false;
    }

    fn wake(&self) {
        *self.token.lock().expect("no thread panics with it") = true;
        self.wake.notify_one();
    }
}

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Names the bug to plant, in the process that runs a model with one.
const PLANT: &str = "ARCA_LOOM_PLANT";

fn planted(bug: &str) -> bool {
    std::env::var(PLANT).is_ok_and(|plant| plant == bug)
}

/// Runs a model, named by its path, with a bug planted in it, which must be caught. (In
/// a process of its own, because a model that ends in a deadlock aborts.)
fn catches(bug: &str, model: &str) {
    let binary = std::env::current_exe().expect("a test has a binary");
    let status = Command::new(binary)
        .args(["--exact", model])
        .env(PLANT, bug)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("a test can run its binary");
    assert!(!status.success(), "{model} does not notice {bug}");
}
