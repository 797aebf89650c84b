//! What the machine's kernel and QEMU itself say: kept, and shown when something
//! goes wrong.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// How many lines are shown: a kernel's report of its end, whole.
const LINES: usize = 60;
/// How many bytes are kept.
const KEPT: usize = 64 << 10;
/// How QEMU says that its emulated processor is not quite the one that was asked
/// for, for which it always says so.
const NOISE: &str = "warning: TCG doesn't support requested feature";

/// The end of what was said.
#[derive(Clone, Default)]
pub struct Console(Arc<Mutex<Vec<u8>>>);

impl Console {
    /// Keeps what comes from there, on a thread that ends with it.
    pub fn keep(&self, mut from: impl Read + Send + 'static) -> JoinHandle<()> {
        let kept = Arc::clone(&self.0);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(len @ 1..) = from.read(&mut piece) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&piece[..len]);
                let excess = kept.len().saturating_sub(KEPT);
                kept.drain(..excess);
            }
        })
    }
}

/// Its last lines, each after a line break.
impl fmt::Display for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines = text.lines().map(str::trim_end);
        let lines = lines.filter(|line| !line.is_empty() && !line.contains(NOISE));
        let lines: Vec<_> = lines.collect();
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            // No control character of a boot loader's reaches the terminal.
            let plain = line.chars().filter(|char| !char.is_control());
            write!(f, "\n  {}", plain.collect::<String>())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_last_lines_are_kept() {
        let console = Console::default();
        assert_eq!(console.to_string(), "");
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let keeper = console.keep(reader);
        for line in 0..10_000 {
            write!(writer, "line {line}\r\n\n\x1b{NOISE}\n").expect("it is read");
        }
        write!(writer, "\x1bcend").expect("it is read");
        drop(writer);
        keeper.join().expect("no panic");
        let shown = console.to_string();
        assert!(shown.starts_with("\n  line 9941\n"), "{shown}");
        assert_eq!(shown.lines().count(), LINES + 1);
        assert!(!shown.contains('\x1b'));
    }
}
