//! Things with an id: a table whose ids distinguish a stale one from its successor.

/// A table of at most so many values. An id is an index in its low bits and a
/// generation above, which is never 0, so no id is 0.
#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Vec<Entry<T>>,
    /// Indices of entries without a value, last freed last.
    free: Vec<u32>,
    limit: u32,
    index_bits: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    /// A table for at most `limit` values, 2^24 at most.
    pub(crate) fn new(limit: usize) -> Self {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX).clamp(1, 1 << 24);
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            limit,
            index_bits: limit.next_power_of_two().ilog2(),
        }
    }

    /// Values there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether no further value fits.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.limit as usize
    }

    /// Adds a value; gives it back if the table is full. The value is made by
    /// `make`, from its id.
    pub(crate) fn insert(&mut self, make: impl FnOnce(u32) -> T) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 1,
                value: None,
            });
            self.entries.len() as u32 - 1
        });
        let index_bits = self.index_bits;
        let entry = self.entries.get_mut(index as usize)?;
        let id = entry.generation << index_bits | index;
        entry.value = Some(make(id));
        Some(id)
    }

    fn index(&self, id: u32) -> (usize, u32) {
        let index = id & ((1 << self.index_bits) - 1);
        (index as usize, id >> self.index_bits)
    }

    /// The value of that id; `None` if there is none, or it is another's by now.
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (index, generation) = self.index(id);
        let entry = self.entries.get_mut(index)?;
        (entry.generation == generation)
            .then_some(entry.value.as_mut())
            .flatten()
    }

    /// As [`Table::get_mut`], to read.
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let (index, generation) = self.index(id);
        let entry = self.entries.get(index)?;
        (entry.generation == generation)
            .then_some(entry.value.as_ref())
            .flatten()
    }

    /// Takes the value of that id out; the id is stale from now on.
    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let (index, generation) = self.index(id);
        let last = u32::MAX >> self.index_bits;
        let entry = self.entries.get_mut(index)?;
        if entry.generation != generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = match generation {
            generation if generation >= last => 1,
            generation => generation + 1,
        };
        self.free.push(index as u32);
        Some(value)
    }

    /// All values.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter_map(|e| e.value.as_mut())
    }

    /// All ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        let bits = self.index_bits;
        let entries = self.entries.iter().enumerate();
        entries.filter_map(move |(index, entry)| {
            let id = entry.generation << bits | index as u32;
            entry.value.as_ref().map(|_| id)
        })
    }

    /// Takes every value out; all ids are stale from now on.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        let ids: Vec<u32> = self.ids().collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_is_not_its_successors() {
        let mut table = Table::new(2);
        let first = table.insert(|id| id).expect("room");
        assert_ne!(first, 0);
        assert_eq!(table.remove(first), Some(first));
        assert_eq!(table.remove(first), None);
        let second = table.insert(|id| id).expect("room");
        assert_ne!(first, second);
        assert!(table.get(first).is_none() && table.get_mut(first).is_none());
        assert_eq!(table.get(second), Some(&second));
        assert!(table.get(0).is_none() && table.get(u32::MAX).is_none());
    }

    #[test]
    fn a_full_table_says_so_and_generations_wrap_past_zero() {
        let mut table = Table::new(1 << 24);
        for _ in 0..1000 {
            let id = table.insert(|id| id).expect("room");
            assert_ne!(id, 0);
            table.remove(id);
        }
        assert_eq!(table.len(), 0);
        let mut table = Table::new(3);
        let ids: Vec<u32> = (0..3).filter_map(|_| table.insert(|id| id)).collect();
        assert!(table.is_full() && table.insert(|id| id).is_none());
        assert_eq!(table.ids().collect::<Vec<_>>(), ids);
        assert_eq!(table.drain(), ids);
        assert_eq!(table.len(), 0);
    }
}
