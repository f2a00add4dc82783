//! Slots with generations: a slab that never gives the same id twice.

use std::marker::PhantomData;

use slab::Slab;

use crate::connection_id::SlotId;

/// `None` is a slot whose generations are used up: it is never free again.
#[derive(Debug)]
pub(crate) struct Table<T, I> {
    slots: Slab<Option<T>>,
    /// How often each slot was freed. It outlives the tenants, so it lies apart from them.
    generations: Vec<u32>,
    retired: usize,
    id: PhantomData<fn() -> I>,
}

impl<T, I: SlotId> Table<T, I> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab::new(),
            generations: Vec::new(),
            retired: 0,
            id: PhantomData,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.retired
    }

    /// The id the next insert will give.
    pub(crate) fn next_id(&self) -> I {
        let index = self.slots.vacant_key();
        let generation = self.generations.get(index).copied().unwrap_or(0);
        I::from_parts(index as u32, generation)
    }

    pub(crate) fn insert(&mut self, value: T) -> I {
        let id = self.next_id();
        if self.slots.len() == self.slots.capacity() {
            // A quarter at a time: doubling would leave up to half of the memory unused.
            let more = self.slots.len() / 4 + 16;
            self.slots.reserve_exact(more);
            self.generations.reserve_exact(more);
        }
        let index = self.slots.insert(Some(value));
        if index == self.generations.len() {
            self.generations.push(0);
        }
        id
    }

    #[inline]
    pub(crate) fn get(&self, id: I) -> Option<&T> {
        match self.generations.get(id.slot()) {
            Some(&generation) if generation == id.serial() => self.slots.get(id.slot())?.as_ref(),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        match self.generations.get(id.slot()) {
            Some(&generation) if generation == id.serial() => {
                self.slots.get_mut(id.slot())?.as_mut()
            }
            _ => None,
        }
    }

    /// Frees a slot; its next tenant has another generation. A slot that has none left is retired.
    pub(crate) fn remove(&mut self, id: I) -> Option<T> {
        self.get(id)?;
        let value = self.slots.get_mut(id.slot())?.take();
        let generation = &mut self.generations[id.slot()];
        match generation.checked_add(1) {
            Some(next) => {
                *generation = next;
                self.slots.remove(id.slot());
            }
            None => self.retired += 1,
        }
        value
    }

    /// The generation of the slot's present tenant, for tokens that could not carry it.
    pub(crate) fn generation(&self, index: usize) -> u32 {
        self.generations.get(index).copied().unwrap_or(0)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        let generations = &self.generations;
        self.slots.iter_mut().filter_map(move |(index, slot)| {
            let id = I::from_parts(index as u32, generations[index]);
            slot.as_mut().map(|value| (id, value))
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.slots.iter().filter_map(|(index, slot)| {
            let id = I::from_parts(index as u32, self.generation(index));
            slot.as_ref().map(|value| (id, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConnectionId;

    type Names = Table<char, ConnectionId>;

    #[test]
    fn an_old_id_does_not_reach_the_next_tenant() {
        let mut table = Names::new();
        let old = table.insert('a');
        assert_eq!(table.remove(old), Some('a'));
        let new = table.insert('b');
        assert_eq!((old.index(), new.index()), (0, 0));
        assert_eq!(table.get(old), None);
        assert_eq!(table.get_mut(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.get(new), Some(&'b'));
    }

    #[test]
    fn a_slot_is_retired_with_its_last_generation() {
        let mut table = Names::new();
        let first = table.insert('a');
        table.remove(first);
        table.generations[0] = u32::MAX;
        let last = table.insert('b');
        assert_eq!(last.generation(), u32::MAX);
        assert_eq!(table.remove(last), Some('b'));
        assert_eq!(table.len(), 0);
        assert_eq!(table.get(last), None, "a retired slot has no tenant");
        let next = table.insert('c');
        assert_eq!(next.index(), 1, "the slot is not used again");
        assert_eq!(table.iter().map(|(_, name)| *name).collect::<String>(), "c");
    }
}
