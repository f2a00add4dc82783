//! Slots with generations: a slab that never returns the same id twice.

use std::marker::PhantomData;

use slab::Slab;

use crate::connection_id::SlotId;

/// The generation of a slot that has used all others. No id has it, so the slot is never found and never freed.
const RETIRED: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Table<T, I> {
    slots: Slab<Slot<T>>,
    /// The generation of the next tenant of each slot. It outlives tenants, so it is stored separately.
    next: Vec<u32>,
    retired: usize,
    id: PhantomData<fn() -> I>,
}

/// What each event needs comes first, in as few cache lines as possible. (With debug assertions mio's sockets are
/// larger, and a connection needs one more line.)
#[derive(Debug)]
#[repr(C)]
#[cfg_attr(not(debug_assertions), repr(align(64)))]
struct Slot<T> {
    generation: u32,
    value: T,
}

impl<T, I: SlotId> Table<T, I> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab::new(),
            next: Vec::new(),
            retired: 0,
            id: PhantomData,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.retired
    }

    /// Returns the id that the next insert will return.
    pub(crate) fn next_id(&self) -> I {
        let index = self.slots.vacant_key();
        let generation = self.next.get(index).copied().unwrap_or(0);
        I::from_parts(index as u32, generation)
    }

    pub(crate) fn insert(&mut self, value: T) -> I {
        let id = self.next_id();
        if self.slots.len() == self.slots.capacity() {
            // Grow by a quarter: doubling would leave up to half of the memory unused.
            let more = self.slots.len() / 4 + 16;
            self.slots.reserve_exact(more);
            self.next.reserve_exact(more);
        }
        let generation = id.serial();
        let index = self.slots.insert(Slot { generation, value });
        if index == self.next.len() {
            self.next.push(0);
        }
        id
    }

    #[inline]
    pub(crate) fn get(&self, id: I) -> Option<&T> {
        let slot = self.slots.get(id.slot())?;
        (slot.generation == id.serial()).then_some(&slot.value)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot())?;
        (slot.generation == id.serial()).then_some(&mut slot.value)
    }

    /// Frees a slot; its next tenant has another generation. A slot without a further generation is retired: it stays
    /// occupied.
    pub(crate) fn free(&mut self, id: I) {
        let Some(slot) = self.slots.get_mut(id.slot()) else {
            return;
        };
        if slot.generation != id.serial() {
            return;
        }
        let next = id.serial() + u32::from(!mutated!("id reused without a new generation"));
        if next == RETIRED {
            slot.generation = RETIRED;
            self.retired += 1;
        } else {
            self.next[id.slot()] = next;
            self.slots.remove(id.slot());
        }
    }

    /// Returns the generation of the slot's current tenant, for tokens that have no room for it.
    pub(crate) fn generation(&self, index: usize) -> u32 {
        self.slots
            .get(index)
            .map_or(RETIRED, |slot| slot.generation)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        let living = self
            .slots
            .iter_mut()
            .filter(|(_, slot)| slot.generation != RETIRED);
        living.map(|(index, slot)| {
            (
                I::from_parts(index as u32, slot.generation),
                &mut slot.value,
            )
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        let living = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.generation != RETIRED);
        living.map(|(index, slot)| (I::from_parts(index as u32, slot.generation), &slot.value))
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
        assert_eq!(table.get(old), Some(&'a'));
        table.free(old);
        let new = table.insert('b');
        assert_eq!((old.index(), new.index()), (0, 0));
        assert_eq!(table.get(old), None);
        assert_eq!(table.get_mut(old), None);
        table.free(old);
        assert_eq!(table.get(new), Some(&'b'));
    }

    #[test]
    fn a_slot_is_retired_with_its_last_generation() {
        let mut table = Names::new();
        let first = table.insert('a');
        table.free(first);
        table.next[0] = RETIRED - 1;
        let last = table.insert('b');
        assert_eq!(last.generation(), RETIRED - 1);
        table.free(last);
        assert_eq!(table.len(), 0);
        assert_eq!(table.get(last), None, "a retired slot has no tenant");
        let next = table.insert('c');
        assert_eq!(next.index(), 1, "the slot is not used again");
        assert_eq!(table.iter().map(|(_, name)| *name).collect::<String>(), "c");
    }
}
