//! Buffers that a thread's connections share, so that an idle connection owns
//! none.

use std::cell::Cell;
use std::mem::ManuallyDrop;

/// Four full records.
pub const SIZE: usize = 64 * 1024;

thread_local! {
    // `ManuallyDrop`: no destructor runs while Envoy ends the thread.
    static INPUT: Cell<ManuallyDrop<Vec<u8>>> = const { Cell::new(ManuallyDrop::new(Vec::new())) };
    static OUTPUT: Cell<ManuallyDrop<Vec<u8>>> = const { Cell::new(ManuallyDrop::new(Vec::new())) };
}

/// [`SIZE`] bytes of anything. Taken, so that a nested hook gets another.
pub fn take() -> Vec<u8> {
    let mut buffer = ManuallyDrop::into_inner(INPUT.take());
    buffer.resize(SIZE, 0);
    buffer
}

pub fn give_back(buffer: Vec<u8>) {
    drop(ManuallyDrop::into_inner(
        INPUT.replace(ManuallyDrop::new(buffer)),
    ));
}

/// An empty vector that has room already.
pub fn take_output() -> Vec<u8> {
    ManuallyDrop::into_inner(OUTPUT.take())
}

pub fn give_back_output(mut buffer: Vec<u8>) {
    buffer.clear();
    drop(ManuallyDrop::into_inner(
        OUTPUT.replace(ManuallyDrop::new(buffer)),
    ));
}
