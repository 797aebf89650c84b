//! The guest programs are linked as images.

fn main() {
    arca_build::link_programs();
}
