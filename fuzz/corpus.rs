//! Writes the targets' examples where the fuzzer begins: `corpus/<target>/example-<n>`. Prints the targets' names.

fn main() -> std::io::Result<()> {
    for (name, _, examples) in servant_fuzz::targets() {
        let directory = std::path::Path::new("corpus").join(name);
        std::fs::create_dir_all(&directory)?;
        for (at, example) in examples.iter().enumerate() {
            std::fs::write(directory.join(format!("example-{at}")), example)?;
        }
        println!("{name}");
    }
    Ok(())
}
