//! The guest's task table, as the VMM reads it: words that a hostile guest may have
//! written, of which none is believed to be an address before it was looked up.

use crate::crash::symbols::{Place, Symbols};
use crate::host::logs::escape;
use crate::memory::GuestMemory;
use crate::memory::map::AddressMap;
use arca_shared::protocol::layout::MAX_VCPUS;
use arca_shared::protocol::task_table::{
    ENTRY_WORDS, HEADER_WORDS, NotedWait, SIZE, SYMBOL, TaskRecord, TaskTableHeader, Text,
};

/// Longest text that is read.
const TEXT_MAX: u64 = 256;
/// Most places of the program that a wait is shown with.
const PLACES_MAX: usize = 3;

/// What was found of a guest's tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    /// What each vCPU waits for outside of its tasks.
    pub vcpus: Vec<TaskRecord>,
    /// The tasks.
    pub tasks: Vec<TaskRecord>,
    /// Tasks that are in no table.
    pub unlisted: u64,
}

/// Whoever reads a guest's memory.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub memory: &'a GuestMemory,
    pub map: &'a AddressMap,
}

impl Reader<'_> {
    /// Reads the table, if the image has one.
    pub fn tasks(self, symbols: &Symbols<'_>) -> Option<Tasks> {
        let (address, size) = symbols.data(SYMBOL)?;
        if size != SIZE as u64 {
            return None;
        }
        let mut header = [0; HEADER_WORDS];
        self.words(address, &mut header)?;
        let TaskTableHeader { used, unlisted } = TaskTableHeader::decode(header)?;
        let first = address + 8 * HEADER_WORDS as u64;
        let entry = |index: usize| {
            let mut words = [0; ENTRY_WORDS];
            self.words(first + 8 * (index * ENTRY_WORDS) as u64, &mut words)?;
            Some(TaskRecord::decode(&words))
        };
        let mut tasks: Vec<_> = (MAX_VCPUS..MAX_VCPUS + used).filter_map(entry).collect();
        tasks.retain(|task| task.number != 0);
        tasks.sort_by_key(|task| task.number);
        Some(Tasks {
            vcpus: (0..MAX_VCPUS).filter_map(entry).collect(),
            tasks,
            unlisted,
        })
    }

    /// Reads a text, made harmless.
    pub fn text(self, text: Text) -> Option<String> {
        let (physical, left) = self.map.translate(text.address)?;
        let len = u64::from(text.len).min(TEXT_MAX).min(left);
        let mut bytes = vec![0; len as usize];
        self.memory
            .read(physical, &mut bytes)
            .then(|| escape(&bytes))
    }

    fn words(self, address: u64, words: &mut [u64]) -> Option<()> {
        let (physical, left) = self.map.translate(address)?;
        let mut bytes = vec![0; 8 * words.len()];
        if left < bytes.len() as u64 || !self.memory.read(physical, &mut bytes) {
            return None;
        }
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        Some(())
    }
}

/// Where in the program a wait is: of the functions that wait for one another, those
/// that are not the library's, innermost first.
pub fn places(symbols: &Symbols<'_>, noted: &NotedWait) -> Vec<Place> {
    let frames = noted.frames.iter().take_while(|&&address| address != 0);
    let mut own = Vec::new();
    for &address in frames {
        for place in symbols.find(address.wrapping_sub(1)) {
            if place.function.contains("tasks::Noted<") || own.len() == PLACES_MAX {
                return own;
            }
            if is_programs(&place) {
                own.push(place);
            }
        }
    }
    own
}

/// Whether a place is in the program's own source, and in no library's: by its file.
fn is_programs(place: &Place) -> bool {
    let Some((file, _)) = &place.line else {
        return false;
    };
    let runtime = file.contains("/guest/src/")
        && !file.contains("/guest/src/bin/")
        && !file.ends_with("/main.rs");
    let library = ["library/", "/rustc/"]
        .iter()
        .any(|at| file.starts_with(at));
    !runtime && !library && !file.contains("/shared/src/") && !file.contains("/registry/src/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::map::tests::sample;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(address: u64, near in 0x1f_f000u64..0x20_6000, len: u32) {
            let (map, memory) = (sample(1), GuestMemory::new(16 << 20, 4 << 20).expect("memory"));
            let reader = Reader { memory: &memory, map: &map };
            for address in [address, near] {
                if let Some(text) = reader.text(Text { address, len }) {
                    prop_assert!(text.chars().all(|c| !c.is_control()));
                }
                let _ = reader.words(address, &mut [0; ENTRY_WORDS]);
            }
        }
    }

    #[test]
    fn the_programs_places_are_told_from_the_librarys() {
        let place = |file: &str| Place {
            function: "f".into(),
            line: Some((file.into(), 1)),
            inlined: false,
        };
        for (file, own) in [
            ("/home/me/arca/guest/src/bin/echo-server.rs", true),
            ("/home/me/hello/src/main.rs", true),
            ("/home/me/arca/guest/src/runtime.rs", false),
            ("/home/me/arca/shared/src/client/session.rs", false),
            ("library/core/src/future.rs", false),
            (
                "/home/me/.cargo/registry/src/index/embassy-sync-0.8.0/src/mutex.rs",
                false,
            ),
        ] {
            assert_eq!(is_programs(&place(file)), own, "{file}");
        }
    }
}
