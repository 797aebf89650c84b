//! The program is linked as a guest image.

fn main() {
    arca_build::link_programs();
}
