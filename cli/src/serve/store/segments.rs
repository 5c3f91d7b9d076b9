//! The files: segments, written one after the other and deleted once nothing in them is needed.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{index::Place, payload::Draft, record};

/// A segment is closed at this size.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// How far ahead of what is written the file is zeros on disk. Within it a write changes nothing but its
/// own blocks, and an `fdatasync` needs not write the file system's journal.
const AHEAD: u64 = 256 * 1024;

/// What a disk says of a block that it can't read any more (`EIO`).
const BAD_BLOCK: i32 = 5;

/// The segments of a folder, as the writer has them.
pub(super) struct Segments {
    folder: PathBuf,
    /// Sizes by number, the one that is written to included.
    sizes: BTreeMap<u32, u64>,
    number: u32,
    file: File,
    /// Where what is on disk of the file ends.
    ahead: u64,
    /// Set when the file may hold more than was written with success.
    spoiled: bool,
    segment_bytes: u64,
}

impl Segments {
    /// Begins a new segment after those that exist.
    pub(super) fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        let mut sizes = BTreeMap::new();
        let mut last = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Some((number, whole)) = entry.file_name().to_str().and_then(parse) else {
                continue;
            };
            last = last.max(number);
            if whole {
                sizes.insert(number, entry.metadata()?.len());
            }
        }
        let number = last + 1;
        let segment_bytes = SEGMENT_BYTES.min(limit / 16);
        let file = create(folder, number, segment_bytes)?;
        sizes.insert(number, 0);
        Ok(Self {
            folder: folder.to_owned(),
            sizes,
            number,
            file,
            ahead: 0,
            spoiled: false,
            segment_bytes,
        })
    }

    /// The numbers of those that are no longer written to, oldest first.
    pub(super) fn closed(&self) -> Vec<u32> {
        self.sizes.range(..self.number).map(|(number, _)| *number).collect()
    }

    /// The oldest of them.
    pub(super) fn oldest_closed(&self) -> Option<u32> {
        self.sizes.first_key_value().map(|(number, _)| *number).filter(|it| *it != self.number)
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.sizes.values().sum()
    }

    /// The size at which one is closed.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Writes records, on disk before this returns if they are to be durable, and says where the
    /// first of them is.
    pub(super) fn append(&mut self, records: &[u8], durable: bool) -> io::Result<Place> {
        let length = u32::try_from(records.len()).map_err(io::Error::other)?;
        let full = self.size() >= self.segment_bytes || u32::try_from(self.size()).is_err();
        if self.spoiled || full {
            match self.rotate() {
                // A larger segment is better than none, as long as a place in it is a number.
                Err(_) if !self.spoiled && self.size() + u64::from(length) < 1 << 32 => {}
                done => done?,
            }
        }
        let offset = self.size();
        let written = self.file.write_all_at(records, offset).and_then(|()| {
            self.run_ahead(offset + u64::from(length));
            // What was not on disk after one failure is not on disk after a later success:
            // <https://www.usenix.org/system/files/atc20-rebello.pdf>
            if durable { self.file.sync_data() } else { Ok(()) }
                .inspect_err(|_| self.spoiled = true)
        });
        if let Err(error) = written {
            self.ahead = 0;
            self.spoiled |= self.file.set_len(offset).is_err();
            return Err(error);
        }
        self.sizes.insert(self.number, offset + u64::from(length));
        let offset = u32::try_from(offset).map_err(io::Error::other)?;
        Ok(Place { segment: self.number, offset, length })
    }

    /// Writes zeros after `end` when that is where they end. It works without.
    fn run_ahead(&mut self, end: u64) {
        if end < self.ahead {
            return;
        }
        let until = (end + AHEAD).min(self.segment_bytes).max(end);
        let zeros = vec![0; usize::try_from(until - end).unwrap_or(0)];
        self.ahead = match self.file.write_all_at(&zeros, end) {
            Ok(()) => until,
            Err(_) => end,
        };
    }

    fn size(&self) -> u64 {
        self.sizes.get(&self.number).copied().unwrap_or(0)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = create(&self.folder, self.number + 1, self.segment_bytes)?;
        self.end();
        // Otherwise what was not used stays until the segment goes, as zeros without blocks.
        let _ = self.file.set_len(self.size());
        self.file = next;
        self.ahead = 0;
        self.number += 1;
        self.spoiled = false;
        self.sizes.insert(self.number, 0);
        Ok(())
    }

    /// Says at the end of the file that nothing in it is of a write that was broken off. Without, damage
    /// to the last write is taken for that.
    pub(super) fn end(&mut self) {
        let mut end = Vec::new();
        record::write(&mut end, &Draft::settled(&[]), 0, true);
        let size = self.size();
        if self.file.write_all_at(&end, size).is_ok() {
            self.sizes.insert(self.number, size + end.len() as u64);
        }
        // Only notes of what was delivered may not be on disk yet, and these may be lost.
        let _ = self.file.sync_data();
    }

    /// Takes note of where the content of a closed segment ends.
    pub(super) fn ends_at(&mut self, number: u32, end: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path(&self.folder, number))?.set_len(end)?;
        self.sizes.insert(number, end);
        Ok(())
    }

    /// Deletes a closed segment; a damaged one is kept under another name.
    pub(super) fn remove(&mut self, number: u32, damaged: bool) -> io::Result<()> {
        let path = path(&self.folder, number);
        if damaged {
            fs::rename(&path, path.with_extension("damaged"))?;
        } else {
            fs::remove_file(&path)?;
        }
        self.sizes.remove(&number);
        Ok(())
    }
}

/// Reads records; clones of a store share it.
pub(super) struct Reader {
    folder: PathBuf,
    /// The queue is read in the order in which it was written: one open file is enough.
    last: Mutex<Option<(u32, Arc<File>)>>,
}

impl Reader {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), last: Mutex::default() }
    }

    /// The bytes of a record.
    pub(super) fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.length as usize];
        self.file(place.segment)?.read_exact_at(&mut bytes, u64::from(place.offset))?;
        Ok(bytes)
    }

    fn file(&self, number: u32) -> io::Result<Arc<File>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, file)) = &*last
            && *of == number
        {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(path(&self.folder, number))?);
        *last = Some((number, Arc::clone(&file)));
        Ok(file)
    }

    /// A segment is deleted: an open file would keep its space.
    pub(super) fn forget(&self, number: u32) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.take_if(|(of, _)| *of == number);
    }

    /// A whole segment. Blocks that the disk can't read are zeros, which are no record.
    pub(super) fn read_all(&self, number: u32) -> io::Result<Vec<u8>> {
        let path = path(&self.folder, number);
        match fs::read(&path) {
            Err(error) if is_bad_block(&error) => {}
            done => return done,
        }
        let file = File::open(&path)?;
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
        for (block, at) in bytes.chunks_mut(4096).zip((0..).step_by(4096)) {
            match file.read_exact_at(block, at) {
                Err(error) if is_bad_block(&error) => block.fill(0),
                done => done?,
            }
        }
        Ok(bytes)
    }

    #[cfg(test)]
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a segment, for a person.
    pub(super) fn name(&self, number: u32) -> String {
        path(&self.folder, number).display().to_string()
    }
}

/// Whether the bytes are lost, as opposed to out of reach for now.
pub(super) fn is_lost(error: &io::Error) -> bool {
    is_bad_block(error)
        || matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
}

fn is_bad_block(error: &io::Error) -> bool {
    error.raw_os_error() == Some(BAD_BLOCK)
}

/// Makes the folder, for its owner only. What is queued are names of branches, people and machines.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & 0o007 != 0 {
        tracing::warn!(
            folder = %folder.display(),
            "everybody on this machine may look into the queue's folder; chmod 700 it"
        );
    }
    Ok(())
}

/// Keeps other processes away from the folder as long as it is open.
pub(super) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join("lock");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn create(folder: &Path, number: u32, bytes: u64) -> io::Result<File> {
    let path = path(folder, number);
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    // A file that does not grow needs no second write for each `fdatasync`. It works without.
    let _ = file.set_len(bytes);
    // The name is durable before anything in the file is.
    let named = File::open(folder).and_then(|it| it.sync_all());
    // The next try begins with the same number.
    named.inspect_err(|_| drop(fs::remove_file(&path)))?;
    Ok(file)
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:010}.queue"))
}

/// The number of a segment, and whether it is in use (not set aside).
fn parse(name: &str) -> Option<(u32, bool)> {
    let (number, kind) = name.split_once('.')?;
    let whole = match kind {
        "queue" => true,
        "damaged" => false,
        _ => return None,
    };
    number.parse().ok().map(|number| (number, whole))
}
