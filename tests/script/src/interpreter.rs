//! The interpreter: sockets, listeners and jobs by name, and what an operation
//! does with them.

use crate::data::describe;
use crate::op::{Op, Seen};
use crate::system::{Failure, Listener, Made, Outcome, Stream, System};
use crate::transfer::{OK, Task, peek, read, read_end, read_exact, recv, send, write, write_all};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use arca_shared::errno::Errno;
use core::fmt::Display;
use core::time::Duration;
use embedded_io_async::{Read, ReadExactError, Write};

/// The interpreter.
pub struct Interpreter<S: System> {
    system: S,
    streams: BTreeMap<String, S::Stream>,
    listeners: BTreeMap<String, S::Listener>,
    readers: BTreeMap<String, S::Reader>,
    writers: BTreeMap<String, S::Writer>,
    jobs: BTreeMap<String, S::Job>,
}

impl<S: System> Interpreter<S> {
    /// An interpreter over `system`, with nothing open.
    pub fn new(system: S) -> Self {
        Self {
            system,
            streams: BTreeMap::new(),
            listeners: BTreeMap::new(),
            readers: BTreeMap::new(),
            writers: BTreeMap::new(),
            jobs: BTreeMap::new(),
        }
    }

    /// Does what a line says, and answers in one line.
    pub fn run(&mut self, line: &str) -> String {
        let Ok(op) = line.parse::<Op>() else {
            return format!("not an operation: {line}");
        };
        self.perform(op)
            .unwrap_or_else(|failure| failure.to_string())
    }

    fn perform(&mut self, op: Op) -> Result<String, Failure> {
        match op {
            Op::Bind { name, at } => self.bind(name, at),
            Op::Incoming { name, listener } => {
                let made = made(name, self.listener(&listener)?.incoming()?);
                Ok(self.install(made))
            }
            Op::Close { name } => self.close(&name),
            Op::Abort { name } => {
                let stream = self.streams.remove(&name);
                said(stream.ok_or(NO_SUCH)?.abort())
            }
            Op::Clone { new, old } => {
                let clone = self.stream(&old)?.try_clone()?;
                self.streams.insert(new, clone);
                Ok(OK.into())
            }
            Op::Split { name } => {
                let stream = self.streams.remove(&name);
                let (reader, writer) = stream.ok_or(NO_SUCH)?.split()?;
                self.readers.insert(format!("{name}.r"), reader);
                self.writers.insert(format!("{name}.w"), writer);
                Ok(OK.into())
            }
            Op::HalfRead { name, len } => {
                let mut buffer = vec![0; len];
                let reader = self.readers.get_mut(&name).ok_or(NO_SUCH)?;
                let read = self.system.block(reader.read_exact(&mut buffer));
                match read {
                    Ok(()) => Ok(describe(&buffer)),
                    Err(ReadExactError::UnexpectedEof) => Err(Failure::UnexpectedEof),
                    Err(ReadExactError::Other(error)) => Err(error.into()),
                }
            }
            Op::HalfWrite { name, data } => {
                let writer = self.writers.get_mut(&name).ok_or(NO_SUCH)?;
                let written = self.system.block(writer.write_all(&data.bytes()));
                said(written.map_err(Into::into))
            }
            Op::Shutdown { name, how } => said(self.stream(&name)?.shutdown(how)),
            Op::Settle { name, seen } => self.settle(&name, seen),
            Op::Start { job, op } => {
                let task = self.task(*op, true)?;
                self.jobs.insert(job, self.system.start(task));
                Ok(OK.into())
            }
            Op::Waits { job } => {
                let job = self.jobs.get(&job).ok_or(NO_SUCH)?;
                while !self.system.waits(job) {
                    if self.system.is_done(job) {
                        return Ok("done".into());
                    }
                    self.system.pause();
                }
                Ok("waits".into())
            }
            Op::Done { job } => {
                let job = self.jobs.get(&job).ok_or(NO_SUCH)?;
                Ok(self.system.is_done(job).to_string())
            }
            Op::Finish { job } => {
                let job = self.jobs.remove(&job).ok_or(NO_SUCH)?;
                let outcome = self.system.finish(job);
                Ok(self.install(outcome))
            }
            Op::Cancel { job } => {
                let job = self.jobs.remove(&job).ok_or(NO_SUCH)?;
                match self.system.cancel(job)? {
                    Some(outcome) => Ok(self.install(outcome)),
                    None => Ok("cancelled".into()),
                }
            }
            Op::Clear => Ok(self.clear()),
            op => match self.setting(&op) {
                Some(result) => result,
                None => {
                    let task = self.task(op, false)?;
                    let outcome = self.system.run(task);
                    Ok(self.install(outcome))
                }
            },
        }
    }

    fn stream(&self, name: &str) -> Result<&S::Stream, Failure> {
        self.streams.get(name).ok_or(NO_SUCH)
    }

    fn listener(&self, name: &str) -> Result<&S::Listener, Failure> {
        self.listeners.get(name).ok_or(NO_SUCH)
    }

    /// Keeps what an operation made.
    fn install(&mut self, (text, made): Outcome<S>) -> String {
        if let Made::Stream(name, stream) = made {
            self.streams.insert(name, stream);
        }
        text
    }

    fn bind(&mut self, name: String, at: core::net::SocketAddr) -> Result<String, Failure> {
        let listener = self.system.bind(at)?;
        let local = listener.local()?;
        self.listeners.insert(name, listener);
        Ok(format!("ok {local}"))
    }

    fn close(&mut self, name: &str) -> Result<String, Failure> {
        let found = self.streams.remove(name).is_some()
            | self.listeners.remove(name).is_some()
            | self.readers.remove(name).is_some()
            | self.writers.remove(name).is_some();
        found.then(|| OK.into()).ok_or(NO_SUCH)
    }

    fn clear(&mut self) -> String {
        let left: Vec<&str> = self.jobs.keys().map(String::as_str).collect();
        let answer = match left.is_empty() {
            true => OK.into(),
            false => format!("jobs left: {}", left.join(" ")),
        };
        self.jobs.clear();
        self.streams.clear();
        self.readers.clear();
        self.writers.clear();
        self.listeners.clear();
        answer
    }

    fn settle(&self, name: &str, seen: Seen) -> Result<String, Failure> {
        let stream = self.stream(name)?;
        while !stream.has_seen(seen) {
            self.system.pause();
        }
        Ok(OK.into())
    }

    /// What may wait, as a future.
    fn task(&self, op: Op, for_job: bool) -> Result<Task<S>, Failure> {
        let system = match for_job {
            true => self.system.for_job(),
            false => self.system.clone(),
        };
        let stream = |name: &str| {
            let stream = self.stream(name)?;
            Ok::<_, Failure>(match for_job {
                true => stream.for_job(),
                false => stream.clone(),
            })
        };
        Ok(match op {
            Op::Connect { name, to } => Box::pin(async move {
                let connected = system.connect(to, None).await;
                made_or(name, connected)
            }),
            Op::ConnectTimeout { name, to, millis } => Box::pin(async move {
                let within = Some(Duration::from_millis(millis));
                let connected = system.connect(to, within).await;
                made_or(name, connected)
            }),
            Op::ConnectName { name, host, port } => Box::pin(async move {
                let connected = system.connect_name(&host, port).await;
                made_or(name, connected)
            }),
            Op::Accept { name, listener } => {
                let listener = match for_job {
                    true => self.listener(&listener)?.for_job(),
                    false => self.listener(&listener)?.clone(),
                };
                Box::pin(async move {
                    let accepted = listener.accept().await;
                    let stream = accepted.and_then(|(stream, peer)| match stream.peer() {
                        Ok(told) if told != peer => Err(Failure::Other("two peer addresses")),
                        _ => Ok(stream),
                    });
                    made_or(name, stream)
                })
            }
            Op::Read { name, len } => read(stream(&name)?, len),
            Op::Peek { name, len } => peek(stream(&name)?, len),
            Op::ReadExact { name, len } => read_exact(stream(&name)?, len),
            Op::ReadEnd { name } => read_end(stream(&name)?, None),
            Op::Drain { name, data } => read_end(stream(&name)?, Some(data)),
            Op::Write { name, data } => write(stream(&name)?, data),
            Op::WriteAll { name, data } => write_all(stream(&name)?, data),
            Op::Send { name, data } => send(stream(&name)?, data),
            Op::Recv { name, len } => recv(stream(&name)?, len),
            _ => return Err(Failure::Other("not a job")),
        })
    }

    /// What asks or sets something of a stream, if it is that.
    fn setting(&self, op: &Op) -> Option<Result<String, Failure>> {
        Some(match op {
            Op::Nonblocking { name, on } => match self.listener(name) {
                Ok(listener) => said(listener.set_nonblocking(*on)),
                Err(_) => self
                    .stream(name)
                    .and_then(|stream| said(stream.set_nonblocking(*on))),
            },
            Op::Ttl { name, set } => match self.listener(name) {
                Ok(listener) => told(listener.ttl(*set)),
                Err(_) => self.stream(name).and_then(|stream| told(stream.ttl(*set))),
            },
            Op::TakeError { name } => match self.listener(name) {
                Ok(listener) => errno(listener.take_error()),
                Err(_) => self.stream(name).and_then(|s| errno(s.take_error())),
            },
            Op::SetOption {
                name,
                option,
                value,
            } => match self.listener(name) {
                Ok(listener) => said(listener.set_option(*option, *value)),
                Err(_) => self
                    .stream(name)
                    .and_then(|stream| said(stream.set_option(*option, *value))),
            },
            Op::Local { name } => match self.listener(name) {
                Ok(listener) => told(listener.local()),
                Err(_) => self.stream(name).and_then(|stream| told(stream.local())),
            },
            Op::Peer { name } => self.stream(name).and_then(|s| told(s.peer())),
            Op::NoDelay { name, set } => self.stream(name).and_then(|s| told(s.nodelay(*set))),
            Op::KeepAlive { name } => self.stream(name).and_then(|s| time(s.keepalive())),
            Op::SetKeepAlive { name, seconds } => self
                .stream(name)
                .and_then(|s| said(s.set_keepalive(seconds.map(Duration::from_secs)))),
            Op::ReadTimeout { name } => self.stream(name).and_then(|s| time(s.read_timeout())),
            Op::SetReadTimeout { name, millis } => self
                .stream(name)
                .and_then(|s| said(s.set_read_timeout(millis.map(Duration::from_millis)))),
            Op::WriteTimeout { name } => self.stream(name).and_then(|s| time(s.write_timeout())),
            Op::SetWriteTimeout { name, millis } => self
                .stream(name)
                .and_then(|s| said(s.set_write_timeout(millis.map(Duration::from_millis)))),
            Op::GetOption { name, option } => {
                self.stream(name).and_then(|s| told(s.option(*option)))
            }
            _ => return None,
        })
    }
}

/// A name that nothing has.
const NO_SUCH: Failure = Failure::Other("no such name");

/// A stream that was made, told by its addresses.
fn made<S: System>(name: String, stream: S::Stream) -> Outcome<S> {
    let text = match (stream.local(), stream.peer()) {
        (Ok(local), Ok(peer)) => format!("ok {local} {peer}"),
        // Natively, the peer of a connection that has failed is not known.
        (Ok(local), Err(failure)) => format!("ok {local} {failure}"),
        (Err(failure), _) => failure.to_string(),
    };
    (text, Made::Stream(name, stream))
}

fn made_or<S: System>(name: String, result: Result<S::Stream, Failure>) -> Outcome<S> {
    match result {
        Ok(stream) => made(name, stream),
        Err(failure) => (failure.to_string(), Made::Nothing),
    }
}

fn said(result: Result<(), Failure>) -> Result<String, Failure> {
    result.map(|()| OK.into())
}

fn told<T: Display>(result: Result<T, Failure>) -> Result<String, Failure> {
    result.map(|value| value.to_string())
}

fn time(result: Result<Option<Duration>, Failure>) -> Result<String, Failure> {
    Ok(match result? {
        Some(time) => format!("{time:?}"),
        None => "none".into(),
    })
}

fn errno(result: Result<Option<Errno>, Failure>) -> Result<String, Failure> {
    Ok(match result? {
        Some(errno) => format!("{errno:?}"),
        None => "none".into(),
    })
}
