//! smol's executor over our own reactor.
//!
//! The futures of the program run on one `smol::LocalExecutor`; when none of them can go on, the
//! thread sleeps in the poller's epoll wait, whose events the loop's own future then finds. smol's
//! usual reactor would serve as well, but at a thousand messages a second, one a wake-up, it was
//! measured at 32 us of CPU a message against 20 us, for re-arming sockets and a timer by system
//! calls, and it brings a thread; under load there is no difference.
//!
//! Invariant: only `run` blocks, and only while nothing is runnable.

use std::cell::Cell;
use std::future::{poll_fn, Future};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use rustix::event::{eventfd, EventfdFlags};
use smol::LocalExecutor;

use super::poller::Poller;

/// Token of the descriptor that ends a sleep.
const TOKEN_WOKEN: u64 = u64::MAX;

/// Executor and reactor of the one thread that serves.
pub struct Runtime {
    /// The sources that are waited for.
    pub poller: Poller,
    bell: Arc<Bell>,
    sleeper: Cell<Option<Waker>>,
    timeout_ms: Cell<Option<u64>>,
    outcome: Cell<io::Result<()>>,
}

/// Says that a future can go on; rings if the thread sleeps.
struct Bell {
    is_rung: AtomicBool,
    is_asleep: AtomicBool,
    descriptor: OwnedFd,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.is_rung.store(true, Ordering::SeqCst);
        if self.is_asleep.load(Ordering::SeqCst) {
            // It is full or broken only if the sleep has an end anyway.
            let _ = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes());
        }
    }
}

impl Runtime {
    /// A runtime without sources.
    pub fn new() -> io::Result<Rc<Runtime>> {
        let poller = Poller::new()?;
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        poller.add(&descriptor, TOKEN_WOKEN)?;
        let bell = Bell { is_rung: AtomicBool::new(false), is_asleep: AtomicBool::new(false), descriptor };
        Ok(Rc::new(Runtime {
            poller,
            bell: Arc::new(bell),
            sleeper: Cell::new(None),
            timeout_ms: Cell::new(None),
            outcome: Cell::new(Ok(())),
        }))
    }

    /// Waits for events of the poller, at most this long; others of the executor go on meanwhile.
    pub async fn wait(&self, timeout_ms: Option<u64>) -> io::Result<()> {
        if timeout_ms == Some(0) {
            return self.poller.wait(timeout_ms);
        }
        let mut slept = false;
        poll_fn(|context| {
            // The sleep is over when `run` has taken the sleeper; other wakes do not end it.
            if self.sleeper.take().is_none() && std::mem::replace(&mut slept, true) {
                return Poll::Ready(());
            }
            self.timeout_ms.set(timeout_ms);
            self.sleeper.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
        self.outcome.replace(Ok(()))
    }

    /// Runs a future, and whatever it spawns on the executor, to the future's end.
    pub fn run<T>(&self, executor: &LocalExecutor<'_>, future: impl Future<Output = T>) -> T {
        let mut future = pin!(executor.run(future));
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return value;
            }
            self.bell.is_asleep.store(true, Ordering::SeqCst);
            if !self.bell.is_rung.swap(false, Ordering::SeqCst) {
                self.outcome.set(self.poller.wait(self.timeout_ms.take()));
                self.bell.is_asleep.store(false, Ordering::SeqCst);
                if let Some(sleeper) = self.sleeper.take() {
                    sleeper.wake();
                }
            }
            // What was rung for until here is seen by the poll that follows.
            self.bell.is_asleep.store(false, Ordering::SeqCst);
            self.bell.is_rung.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_by_its_timeout_and_by_a_wake_from_another_thread() {
        let runtime = Runtime::new().unwrap();
        let executor = LocalExecutor::new();
        runtime.run(&executor, runtime.wait(Some(1))).unwrap();
        let (sender, receiver) = smol::channel::bounded(1);
        let thread = std::thread::spawn(move || sender.send_blocking(7));
        assert_eq!(runtime.run(&executor, receiver.recv()), Ok(7));
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_spawned_goes_on_while_the_loop_waits() {
        let runtime = Runtime::new().unwrap();
        let executor = LocalExecutor::new();
        let (sender, receiver) = smol::channel::bounded(1);
        executor.spawn(async move { sender.send(1).await }).detach();
        let waited = runtime.run(&executor, async {
            let got = receiver.recv().await;
            runtime.wait(Some(0)).await.map(|()| got)
        });
        assert_eq!(waited.unwrap(), Ok(1));
    }
}
