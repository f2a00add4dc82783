//! An allocator that counts the heap operations of each thread.
//!
//! A test file that declares this module uses the allocator: `#[path = "support/heap.rs"] mod heap;`. All other test
//! files use the system allocator.
#![allow(
    unsafe_code,
    dead_code,
    reason = "an allocator is unsafe to implement; each test file uses its own part"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The heap operations of the current thread. A loop and its peers share the thread of their test, so other tests are
/// not counted. Peers that are plain sockets allocate nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heap {
    /// Calls that requested memory, or more of it.
    pub(crate) allocations: u64,
    /// Bytes that are allocated.
    pub(crate) live: isize,
    /// The highest value of `live` since the last `reset_peak`.
    pub(crate) peak: isize,
}

thread_local! {
    static HEAP: Cell<Heap> = const { Cell::new(Heap { allocations: 0, live: 0, peak: 0 }) };
}

impl Heap {
    pub(crate) fn now() -> Self {
        HEAP.get()
    }

    /// Sets the peak to the current size, and returns the current state.
    pub(crate) fn reset_peak() -> Self {
        let mut heap = HEAP.get();
        heap.peak = heap.live;
        HEAP.set(heap);
        heap
    }

    /// Returns the bytes allocated now minus those allocated before.
    pub(crate) fn growth_since(self, before: Self) -> isize {
        self.live - before.live
    }

    /// Returns the peak since `reset_peak`, minus the bytes allocated before.
    pub(crate) fn peak_since(before: Self) -> isize {
        HEAP.get().peak - before.live
    }

    fn note(allocations: u64, bytes: isize) {
        // The cell has no destructor: it exists until the thread has ended.
        let _ = HEAP.try_with(|cell| {
            let mut heap = cell.get();
            heap.allocations += allocations;
            heap.live += bytes;
            heap.peak = heap.peak.max(heap.live);
            cell.set(heap);
        });
    }
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed to `System` with its arguments, and its result is returned unchanged. Counting writes to
// a thread-local `Cell` that is initialized at compile time and has no destructor: it neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Heap::note(1, layout.size() as isize);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Heap::note(1, layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Heap::note(1, size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Heap::note(0, -(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}
