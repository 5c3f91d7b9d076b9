//! `corpus unpack TARGET FOLDER` writes what a campaign begins with, `corpus pack TARGET FOLDER` keeps
//! what it ended with.

use std::{error::Error, fs, path::Path};

use spanhook_fuzz::{corpus, seeds};

const USAGE: &str = "use: corpus unpack TARGET FOLDER, or corpus pack TARGET FOLDER";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [what, target, folder] = arguments.as_slice() else { return Err(USAGE.into()) };
    let folder = Path::new(folder);
    match what.as_str() {
        "unpack" => {
            fs::create_dir_all(folder)?;
            let kept = corpus::read(target).unwrap_or_default();
            for (at, input) in kept.into_iter().chain(seeds::of(target)?).enumerate() {
                fs::write(folder.join(format!("kept-{at}")), input)?;
            }
            Ok(())
        }
        "pack" => {
            let files = fs::read_dir(folder)?.map(|it| fs::read(it?.path()));
            Ok(corpus::write(target, files.collect::<Result<_, _>>()?)?)
        }
        _ => Err(USAGE.into()),
    }
}
