//! How a long run tells what it is doing.

/// Told about stages and steps; `()` listens to nothing.
pub trait Progress {
    /// A stage of `total` steps begins (0: unknown). It ends when the next begins or at [`done`](Self::done).
    fn stage(&mut self, name: &str, total: usize);

    /// `n` more steps of the stage are finished.
    fn advance(&mut self, n: usize);

    /// The last stage has ended.
    fn done(&mut self);
}

impl Progress for () {
    fn stage(&mut self, _: &str, _: usize) {}

    fn advance(&mut self, _: usize) {}

    fn done(&mut self) {}
}
