//! Batches: as many items as one request may carry.

use serde_json::Value;

use crate::{item::Item, kind::Kind};

/// How many items a batch may have.
pub const MAX_ITEMS: usize = 100;

/// How large its JSON may be, in bytes; a single item larger than this goes alone. Lambda takes
/// 6 MB, and most of what stands in front of a receiver more than this.
pub const MAX_BYTES: usize = 200_000;

/// The items of one request, in the order in which they were seen.
#[derive(Debug)]
pub struct Batch {
    prefix: String,
    items: Vec<Item>,
    bytes: usize,
}

const SUFFIX: &str = "]}";

impl Batch {
    /// An empty one.
    #[must_use]
    pub fn new(cluster: &str) -> Self {
        let prefix = format!(r#"{{"cluster":{},"items":["#, Value::from(cluster));
        Self { bytes: prefix.len() + SUFFIX.len(), prefix, items: Vec::new() }
    }

    /// Takes an item, or gives it back where it belongs in the next batch.
    pub fn push(&mut self, item: Item) -> Result<(), Item> {
        let size = item.json.len() + usize::from(!self.items.is_empty());
        if !self.items.is_empty() && (self.is_full() || self.bytes + size > MAX_BYTES) {
            return Err(item);
        }
        self.bytes += size;
        self.items.push(item);
        Ok(())
    }

    /// Whether it takes no more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.items.len() >= MAX_ITEMS
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The kinds of its items.
    #[must_use]
    pub fn kinds(&self) -> impl ExactSizeIterator<Item = Kind> {
        self.items.iter().map(|it| it.kind)
    }

    /// The body of its request.
    #[must_use]
    pub fn json(&self) -> String {
        let mut json = String::with_capacity(self.bytes);
        json.push_str(&self.prefix);
        for (index, item) in self.items.iter().enumerate() {
            json.push_str(if index == 0 { "" } else { "," });
            json.push_str(&item.json);
        }
        json + SUFFIX
    }

    /// Its two halves; none of one that has a single item.
    #[must_use]
    pub fn halves(mut self) -> Option<[Self; 2]> {
        if self.items.len() < 2 {
            return None;
        }
        let behind = self.items.split_off(self.items.len() / 2);
        let half = |items: Vec<Item>| {
            let bytes = items.iter().map(|it| it.json.len() + 1).sum::<usize>() - 1;
            Self {
                prefix: self.prefix.clone(),
                bytes: self.prefix.len() + SUFFIX.len() + bytes,
                items,
            }
        };
        let front = std::mem::take(&mut self.items);
        Some([half(front), half(behind)])
    }
}
