//! Rebuilds when a migration is added: the migrations are compiled in, and cargo cannot see that by itself.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
