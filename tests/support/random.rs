//! Random runs of a test, each determined by a seed. A failing run prints its seed; `THRONG_SEED=17 cargo test --test
//! FILE` repeats that run alone.

/// Sebastiano Vigna's SplitMix64: one word of state, good enough to choose among a few items.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    pub fn choose<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        (!items.is_empty()).then(|| items[self.below(items.len())])
    }

    /// Returns one of several items; there must be at least one.
    pub fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

/// Prints how to repeat a run that failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the run of THRONG_SEED={} failed", self.0);
        }
    }
}

/// Makes `runs` runs. Half of the seeds are always the same, half are new each time.
pub fn with_seeds(runs: u64, mut run: impl FnMut(u64)) {
    let given = std::env::var("THRONG_SEED").ok();
    let seeds = match given.and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => {
            let epoch = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
            let fresh = epoch.as_nanos() as u64 >> 10;
            let half = runs / 2;
            (0..half).chain(fresh..fresh + half).collect()
        }
    };
    for seed in seeds {
        let _printed = Seed(seed);
        run(seed);
    }
}
