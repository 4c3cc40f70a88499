//! The file from which a daemon that comes back knows the sagas: written now and then and at the end, read at the start.
//! Never believed unless it is whole and of this very log, and never needed: without it the log is read from further back.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{debug, info, warn};

use super::feed::{Mail, RING_BYTES};
use super::hub::Log;
use super::queue::Queue;
use crate::logic::fnv::Fnv;
use crate::logic::push::partition::{FORMAT, Keep, Part, Partition};
use crate::logic::saga::SagaKey;
use crate::tasks::attached_blocking;

const NAME: &str = "sagas";
const DRAFT: &str = "sagas~";
const MAGIC: &[u8] = b"outboxd sagas\n";
/// Blocks that wait for the disk.
const AHEAD: usize = 2;
/// No block has more bytes: one saga at least, which a few records of a megabyte each have made.
const BLOCK_BYTES_MAX: u32 = 256 << 20;
/// How old the file gets.
const EVERY: Duration = Duration::from_secs(300);
/// A daemon that ends does not wait for a disk for longer.
const LAST: Duration = Duration::from_secs(10);

/// Partitions made of a file.
pub(super) type Known = Vec<Partition<Arc<Queue>>>;

/// What a file has to be of to be of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    epoch: String,
    partitions: usize,
    history: Duration,
    finished: Duration,
}

impl Head {
    pub(super) fn new(epoch: &str, partitions: usize, keep: Keep) -> Self {
        Self {
            format: FORMAT,
            epoch: epoch.to_owned(),
            partitions,
            history: keep.history,
            finished: keep.finished,
        }
    }

    fn keep(&self) -> Keep {
        Keep {
            history: self.history,
            finished: self.finished,
        }
    }
}

/// The directory that keeps the file, for this daemon alone.
#[derive(Debug)]
pub(super) struct Warm {
    directory: PathBuf,
    /// Of the directory: two daemons would write into each other's draft.
    _lock: File,
    saving: Mutex<()>,
}

/// Why there is no use for a file, or none could be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WarmError {
    #[error("another daemon uses it; give each its own")]
    Taken,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is of {0}")]
    Foreign(&'static str),
    #[error("it is damaged")]
    Damaged,
    #[error("sagas are forgotten while they are being saved; make `keep_finished` longer")]
    TooLate,
    #[error("sagas are being read anew")]
    Ended,
}

impl Warm {
    /// Takes the directory, if it can; says why not otherwise.
    pub(super) fn open(directory: &Path) -> Option<Self> {
        match lock(directory) {
            Ok(lock) => Some(Self {
                directory: directory.to_owned(),
                _lock: lock,
                saving: Mutex::default(),
            }),
            Err(error) => {
                let directory = directory.display();
                warn!(
                    "[push] state_directory {directory} cannot be used: {error}; sagas are read from the log"
                );
                None
            }
        }
    }

    /// The partitions as the file has them; none if there is no such file, or none of use, which is told.
    pub(super) async fn load(&self, head: Head) -> Option<Known> {
        let (path, began) = (self.directory.join(NAME), Instant::now());
        let file = path.display().to_string();
        let read = attached_blocking(move || read(&path, &head)).await;
        match read.unwrap_or_else(|error| Err(io::Error::other(error).into())) {
            Ok((known, sagas)) => {
                let took_ms = began.elapsed().as_millis();
                info!(file, sagas, took_ms, "sagas are known from before");
                Some(known)
            }
            Err(WarmError::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(%error, file, "sagas from before are of no use: the log is read instead");
                None
            }
        }
    }

    /// Writes the file now and again from now on.
    pub(super) async fn keep(&self, log: &Log) {
        let mut told = String::new();
        loop {
            let fault = match self.save(log).await {
                Ok(()) => String::new(),
                Err(error) => error.to_string(),
            };
            if fault != told && !fault.is_empty() {
                let directory = self.directory.display();
                warn!("[push] state_directory {directory} cannot be written to: {fault}");
            }
            told = fault;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Writes the file for the last time.
    pub(super) async fn save_last(&self, log: &Log) {
        match tokio::time::timeout(LAST, self.save(log)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "sagas were not saved for the next start"),
            Err(_) => warn!("sagas were not saved for the next start: the disk is too slow"),
        }
    }

    /// Writes what the partitions know, part by part.
    async fn save(&self, log: &Log) -> Result<(), WarmError> {
        let _alone = self.saving.lock().await;
        let began = Instant::now();
        let (blocks, written) = mpsc::channel(AHEAD);
        let (directory, head) = (self.directory.clone(), log.head.clone());
        let writing = attached_blocking(move || write(&directory, &head, written));
        let sent = send_all(log, blocks).await;
        // If that could not be sent, the writer may know why.
        writing.await.map_err(io::Error::other)??;
        let (sagas, took_ms) = (sent?, began.elapsed().as_millis());
        debug!(sagas, took_ms, "sagas are saved for the next start");
        Ok(())
    }
}

fn lock(directory: &Path) -> Result<File, WarmError> {
    let lock = File::open(directory)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(WarmError::Taken),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Sends the parts of all partitions, and that nothing is missing; how many sagas they hold.
async fn send_all(log: &Log, blocks: mpsc::Sender<Block>) -> Result<usize, WarmError> {
    let mut sagas = 0;
    for partition in &log.partitions {
        let (mut after, mut base) = (None, None);
        loop {
            let first = after.is_none();
            let part = part_of(partition, after).await?;
            if part.is_too_late_for(base.get_or_insert_with(|| part.base.clone())) {
                return Err(WarmError::TooLate);
            }
            sagas += part.count;
            after = part.after.clone();
            let sent = blocks.send(Block::Part { first, part }).await;
            sent.map_err(|_| WarmError::Ended)?;
            if after.is_none() {
                break;
            }
        }
    }
    let sent = blocks.send(Block::End).await;
    sent.map_err(|_| WarmError::Ended)?;
    Ok(sagas)
}

async fn part_of(
    partition: &mpsc::Sender<Mail>,
    after: Option<SagaKey>,
) -> Result<Part, WarmError> {
    let (reply, answer) = oneshot::channel();
    let asked = partition.send(Mail::Part { after, reply }).await;
    asked.map_err(|_| WarmError::Ended)?;
    answer.await.map_err(|_| WarmError::Ended)
}

/// What the writer is told.
enum Block {
    /// The next sagas of a partition, or the first ones of the next partition.
    Part { first: bool, part: Part },
    /// Nothing is missing.
    End,
}

/// What kind of block follows in the file.
const BASE: u8 = b'P';
const SAGAS: u8 = b'S';
const END: u8 = b'E';

/// Writes blocks beside the file, and puts them into its place once they are whole and on the disk.
fn write(
    directory: &Path,
    head: &Head,
    mut blocks: mpsc::Receiver<Block>,
) -> Result<(), WarmError> {
    let draft = directory.join(DRAFT);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = Summed {
        file: BufWriter::with_capacity(1 << 20, options.open(&draft)?),
        sum: Fnv::new(),
    };
    file.put(MAGIC)?;
    file.put_as(head)?;
    loop {
        match blocks.blocking_recv() {
            Some(Block::Part { first, part }) => {
                if first {
                    file.put(&[BASE])?;
                    file.put_as(&part.base)?;
                }
                file.put(&[SAGAS])?;
                file.put_block(&part.sagas)?;
            }
            Some(Block::End) => break,
            None => return Err(WarmError::Ended),
        }
    }
    file.put(&[END])?;
    let sum = file.sum.finish();
    file.put(&sum.to_le_bytes())?;
    let file = file.file.into_inner().map_err(io::Error::from)?;
    file.sync_all()?;
    std::fs::rename(&draft, directory.join(NAME))?;
    Ok(File::open(directory)?.sync_all()?)
}

/// Reads a file; how many sagas it has.
fn read(path: &Path, expected: &Head) -> Result<(Known, usize), WarmError> {
    let mut file = Summed {
        file: BufReader::with_capacity(1 << 20, File::open(path)?),
        sum: Fnv::new(),
    };
    let mut magic = [0; MAGIC.len()];
    file.take(&mut magic)?;
    if magic != MAGIC {
        return Err(WarmError::Damaged);
    }
    let head: Head = file.take_as()?;
    if head.format != expected.format {
        return Err(WarmError::Foreign("another release"));
    }
    if (&head.epoch, head.partitions) != (&expected.epoch, expected.partitions) {
        return Err(WarmError::Foreign("another log"));
    }
    if head != *expected {
        return Err(WarmError::Foreign("another `history` or `keep_finished`"));
    }
    let (mut known, mut sagas): (Known, _) = (Vec::new(), 0);
    loop {
        let mut kind = [0];
        file.take(&mut kind)?;
        match kind {
            [BASE] => {
                let number = i32::try_from(known.len()).map_err(|_| WarmError::Damaged)?;
                let base = file.take_as()?;
                known.push(Partition::again(number, head.keep(), RING_BYTES, base));
            }
            [SAGAS] => {
                let partition = known.last_mut().ok_or(WarmError::Damaged)?;
                let taken = partition.take_in(&file.take_block()?);
                sagas += taken.map_err(|_| WarmError::Damaged)?;
            }
            [END] => break,
            _ => return Err(WarmError::Damaged),
        }
    }
    let sum = file.sum.finish();
    let mut written = [0; 8];
    file.take(&mut written)?;
    if written != sum.to_le_bytes() || known.len() != head.partitions {
        return Err(WarmError::Damaged);
    }
    Ok((known, sagas))
}

/// A file, and the sum of what went through.
struct Summed<F> {
    file: F,
    sum: Fnv,
}

impl<F: Write> Summed<F> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.file.write_all(bytes)
    }

    fn put_block(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.put(&length.to_le_bytes())?;
        self.put(bytes)
    }

    fn put_as(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.put_block(&postcard::to_allocvec(value).map_err(io::Error::other)?)
    }
}

impl<F: Read> Summed<F> {
    fn take(&mut self, bytes: &mut [u8]) -> Result<(), WarmError> {
        match self.file.read_exact(bytes) {
            Ok(()) => {
                self.sum.update(bytes);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(WarmError::Damaged),
            Err(error) => Err(error.into()),
        }
    }

    fn take_block(&mut self) -> Result<Vec<u8>, WarmError> {
        let mut length = [0; 4];
        self.take(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > BLOCK_BYTES_MAX {
            return Err(WarmError::Damaged);
        }
        let mut block = vec![0; usize::try_from(length).map_err(|_| WarmError::Damaged)?];
        self.take(&mut block)?;
        Ok(block)
    }

    fn take_as<T: for<'a> Deserialize<'a>>(&mut self) -> Result<T, WarmError> {
        let block = self.take_block()?;
        postcard::from_bytes(&block).map_err(|_| WarmError::Damaged)
    }
}

#[cfg(test)]
mod tests;
