//! What of a session is written as text.

use arca_monitor::trace::TraceKind;
use std::collections::BTreeSet;
use std::str::FromStr;

/// What of a session is written as text: all of it, or these kinds of events, of the
/// connections with these ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// None: all kinds.
    kinds: BTreeSet<Kind>,
    /// None: all connections.
    ports: BTreeSet<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Control,
    Connections,
    Data,
}

impl TraceFilter {
    /// Whether events of this kind are written.
    pub fn wants_kind(&self, event: &TraceKind) -> bool {
        let kind = match event {
            TraceKind::Frame(_) => Kind::Control,
            TraceKind::Data { .. } => Kind::Data,
            TraceKind::End => return true,
            _ => Kind::Connections,
        };
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Whether a connection with these ports is written.
    pub fn wants_ports(&self, mut ports: impl Iterator<Item = u16>) -> bool {
        self.ports.is_empty() || ports.any(|port| self.ports.contains(&port))
    }
}

impl FromStr for TraceFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let kind = match word {
                "all" => continue,
                "control" => Kind::Control,
                "connections" => Kind::Connections,
                "data" => Kind::Data,
                port => {
                    let port = port.parse().map_err(|_| {
                        format!(
                            "{port:?} is none of: all, control (frames of the control pipe), \
                             connections (their beginnings and ends), data (their bytes), or a \
                             port; several are separated by commas"
                        )
                    })?;
                    filter.ports.insert(port);
                    continue;
                }
            };
            filter.kinds.insert(kind);
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arca_monitor::trace::Direction;

    #[test]
    fn a_filter_is_a_list() {
        let filter = |text: &str| text.parse::<TraceFilter>().expect("a filter");
        assert_eq!(filter("all"), TraceFilter::default());
        assert_eq!(filter(""), TraceFilter::default());
        let frame = TraceKind::Frame(Direction::Up);
        let freed = TraceKind::Freed { id: 1 };
        let some = filter("control,80,443");
        assert!(some.wants_kind(&frame) && !some.wants_kind(&freed));
        assert!(some.wants_ports([9, 443].into_iter()));
        assert!(!some.wants_ports([9, 8].into_iter()));
        assert!(filter("80").wants_kind(&freed));
        for wrong in ["frames", "70000", "-1", "data;80"] {
            let said = wrong.parse::<TraceFilter>().expect_err("no filter");
            assert!(said.contains("control"), "{said}");
        }
    }
}
