//! Who does what a script says: a native thread, or a guest.

use crate::guest::scaled;
use crate::local::LocalGuest;
use crate::talk::Talk;
use arca_monitor::Rule;
use arca_script::Interpreter;
use arca_script::native::Native;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long an operation may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Does operations, a line each.
pub trait Actor {
    /// Does what the line says, and answers.
    ///
    /// # Errors
    ///
    /// If no answer comes by the deadline.
    fn ask(&mut self, line: &str) -> Result<String, &'static str>;

    /// Waits until nothing is left of what was dropped.
    fn settle(&mut self) {}
}

/// A thread of this process.
pub struct NativeActor {
    lines: Sender<String>,
    answers: Receiver<String>,
}

impl Default for NativeActor {
    fn default() -> Self {
        let (lines, asked) = channel::<String>();
        let (answer, answers) = channel();
        // Ends when the actor is dropped; one that hangs ends with the process.
        thread::spawn(move || {
            let mut interpreter = Interpreter::new(Native);
            for line in asked {
                if answer.send(interpreter.run(&line)).is_err() {
                    break;
                }
            }
        });
        Self { lines, answers }
    }
}

impl Actor for NativeActor {
    fn ask(&mut self, line: &str) -> Result<String, &'static str> {
        self.lines.send(line.into()).map_err(|_| "panicked")?;
        let answer = self.answers.recv_timeout(scaled(DEADLINE));
        answer.map_err(|_| "no answer")
    }
}

/// A guest that runs the program `oracle`.
pub struct GuestActor(Talk);

impl GuestActor {
    /// Starts a guest that may reach everything. `tasks`: what may wait is a task.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start(vcpus: usize, tasks: bool) -> Self {
        let args: &[&str] = if tasks { &["tasks"] } else { &[] };
        Self(Talk::start("oracle", args, |config| {
            config.vcpus = vcpus;
            // As the command runs a guest.
            config.sandbox = true;
            let any: Rule = "any".parse().expect("a rule");
            config.monitor.policy.allow_connect = vec![any.clone()];
            config.monitor.policy.allow_listen = vec![any];
        }))
    }

    /// The guest.
    #[must_use]
    pub fn guest(&self) -> &LocalGuest {
        self.0.guest()
    }

    /// Does what the line says, and gives the answer.
    ///
    /// # Panics
    ///
    /// If there is none by the deadline.
    #[track_caller]
    pub fn tell(&mut self, line: &str) -> String {
        match self.ask(line) {
            Ok(answer) => answer,
            Err(error) => panic!("{line}: {error}"),
        }
    }

    /// Does what the line says, and checks the answer.
    ///
    /// # Panics
    ///
    /// If it is another.
    #[track_caller]
    pub fn expect(&mut self, line: &str, wanted: &str) {
        let answer = self.tell(line);
        assert_eq!(answer, wanted, "{line}");
    }

    /// Does what the line says, which must make something, and gives what is said
    /// of it.
    ///
    /// # Panics
    ///
    /// If it does not.
    #[track_caller]
    pub fn make(&mut self, line: &str) -> String {
        let answer = self.tell(line);
        let made = answer.strip_prefix("ok ");
        made.unwrap_or_else(|| panic!("{line}: {answer}")).into()
    }
}

impl Actor for GuestActor {
    fn ask(&mut self, line: &str) -> Result<String, &'static str> {
        self.0.say(line)?;
        self.0.hear(scaled(DEADLINE))
    }

    fn settle(&mut self) {
        self.guest()
            .wait_until("free of sockets and pipes", |stats| {
                let monitor = &stats.monitor;
                (monitor.connections, monitor.listeners) == (0, 0) && monitor.pipes_allocated == 0
            });
    }
}
