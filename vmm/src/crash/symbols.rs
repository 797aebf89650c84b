//! Functions and lines of the image, by address.

use addr2line::Context;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use std::fmt;

/// A function, and a line in it where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The function's name, demangled.
    pub function: String,
    /// The file and line.
    pub line: Option<(String, u32)>,
    /// The function was inlined into the one that comes next.
    pub inlined: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        if let Some((file, line)) = &self.line {
            write!(f, " ({file}:{line})")?;
        }
        if self.inlined {
            f.write_str(" (inlined)")?;
        }
        Ok(())
    }
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The symbols of one image, as far as it has any.
pub struct Symbols<'a> {
    lines: Option<Context<Slice<'a>>>,
    /// Start, size and name of each function, in order of addresses.
    functions: Vec<(u64, u64, &'a str)>,
    /// The same of its data.
    data: Vec<(u64, u64, &'a str)>,
}

impl<'a> Symbols<'a> {
    /// Reads those of an image. One that cannot be read has none.
    pub fn new(image: &'a [u8]) -> Self {
        let none = Self {
            lines: None,
            functions: Vec::new(),
            data: Vec::new(),
        };
        let Ok(file) = ElfFile64::<object::LittleEndian>::parse(image) else {
            return none;
        };
        let load = |id: addr2line::gimli::SectionId| {
            let data = file
                .section_by_name(id.name())
                .and_then(|section| section.data().ok())
                .unwrap_or(&[]);
            Ok::<_, addr2line::gimli::Error>(EndianSlice::new(data, LittleEndian))
        };
        let lines = Dwarf::load(load).and_then(Context::from_dwarf).ok();
        let all = |kind| {
            let symbols = file.symbols().filter(move |symbol| symbol.kind() == kind);
            let mut found: Vec<_> = symbols
                .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?)))
                .collect();
            found.sort_unstable();
            found
        };
        Self {
            lines,
            functions: all(SymbolKind::Text),
            data: all(SymbolKind::Data),
        }
    }

    /// Address and size of the data of that name.
    pub fn data(&self, name: &str) -> Option<(u64, u64)> {
        let mut data = self.data.iter();
        let (address, size, _) = data.find(|(.., found)| *found == name)?;
        Some((*address, *size))
    }

    /// The data that lies at an address: a static of the program's.
    pub fn data_at(&self, address: u64) -> Option<String> {
        let after = self.data.partition_point(|(start, ..)| *start <= address);
        let (start, size, name) = self.data[..after].last()?;
        (address - start < *size).then(|| demangle(name))
    }

    /// What is at an address: the innermost inlined function first.
    pub fn find(&self, address: u64) -> Vec<Place> {
        let mut places = self.find_lines(address);
        // The symbol table has full names, where lines alone have short ones.
        match (places.last_mut(), self.find_function(address)) {
            (Some(outermost), Some(named)) => outermost.function = named.function,
            (None, Some(named)) => places.push(named),
            (_, None) => {}
        }
        places
    }

    fn find_lines(&self, address: u64) -> Vec<Place> {
        let mut places = Vec::new();
        let Some(lines) = &self.lines else {
            return places;
        };
        let Ok(mut frames) = lines.find_frames(address).skip_all_loads() else {
            return places;
        };
        while let Ok(Some(frame)) = frames.next() {
            let function = frame
                .function
                .as_ref()
                .and_then(|name| name.demangle().ok())
                .map_or_else(|| UNKNOWN.into(), |name| shorten(&name));
            let line = frame
                .location
                .and_then(|location| Some((shorten_path(location.file?), location.line?)));
            places.push(Place {
                function,
                line,
                inlined: true,
            });
        }
        if let Some(outermost) = places.last_mut() {
            outermost.inlined = false;
        }
        places
    }

    fn find_function(&self, address: u64) -> Option<Place> {
        let after = self
            .functions
            .partition_point(|(start, ..)| *start <= address);
        let (start, size, name) = self.functions[..after].last()?;
        // Functions written in assembly may not say how long they are.
        if *size != 0 && address - start >= *size {
            return None;
        }
        Some(Place {
            function: demangle(name),
            line: None,
            inlined: false,
        })
    }
}

fn demangle(name: &str) -> String {
    shorten(&addr2line::demangle_auto(name.into(), None))
}

const UNKNOWN: &str = "unknown function";

/// A file of the standard library without the place that it was built in.
fn shorten_path(path: &str) -> String {
    let within = path
        .strip_prefix("/rustc/")
        .and_then(|rest| rest.split_once('/'));
    within.map_or(path, |(_, within)| within).to_owned()
}

/// A demangled name without the hash at its end.
fn shorten(name: &str) -> String {
    let hash = name
        .rfind("::h")
        .filter(|at| name.len() - at == 19)
        .filter(|at| name[at + 3..].bytes().all(|b| b.is_ascii_hexdigit()));
    name[..hash.unwrap_or(name.len())].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_hash() {
        assert_eq!(shorten("demo::main::h0123456789abcdef"), "demo::main");
        assert_eq!(shorten("demo::h::handler"), "demo::h::handler");
    }

    /// What is looked for: a function that is there, however much is inlined.
    #[inline(never)]
    fn a_function_of_the_image() -> u32 {
        std::hint::black_box(1)
    }

    #[test]
    fn a_function_is_found_by_its_address() {
        assert_eq!(std::hint::black_box(a_function_of_the_image)(), 1);
        // The tests' own executable stands for an image. It moves when it is
        // started, so the address is taken from its symbols.
        let image = std::fs::read(std::env::current_exe().expect("path")).expect("readable");
        let symbols = Symbols::new(&image);
        let (address, ..) = symbols
            .functions
            .iter()
            .find(|(_, _, name)| name.contains("a_function_of_the_image"))
            .expect("in the symbol table");
        let places = symbols.find(*address);
        let outermost = places.last().expect("found");
        assert!(
            outermost.function.contains("a_function_of_the_image"),
            "{places:?}"
        );
        assert!(!outermost.inlined);
    }

    #[test]
    fn garbage_has_no_symbols() {
        for garbage in [&b""[..], b"\x7fELF", &[0xff; 200]] {
            assert!(Symbols::new(garbage).find(0x20_0000).is_empty());
        }
    }
}
