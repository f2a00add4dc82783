//! The process that started a server.

use clap::Args;

/// The process that started a server, if the server ends with it.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Parent {
    #[arg(long, hide = true, value_name = "PID")]
    child_of: Option<u32>,
}

impl Parent {
    /// Returns whether the process that started this one has ended. Always `false` on Windows, which does not tell.
    pub(crate) fn is_gone(self) -> bool {
        #[cfg(unix)]
        let present = Some(std::os::unix::process::parent_id());
        #[cfg(not(unix))]
        let present = self.child_of;
        self.child_of.is_some() && self.child_of != present
    }
    /// Ends this process as soon as the one that started it has ended, without asking again and again.
    #[cfg(all(feature = "peers", target_os = "linux"))]
    pub(crate) fn end_with_it(self) {
        if self.child_of.is_some() {
            // SAFETY: no pointers are passed.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            // It may have ended before.
            if self.is_gone() {
                std::process::exit(0);
            }
        }
    }
}
