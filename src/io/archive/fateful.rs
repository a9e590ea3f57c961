//! A store for tests whose PUTs fail on demand: before the write, after it, or refused.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What becomes of a PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    FailBefore,
    FailAfter,
    Refuse,
    /// No answer, nothing written.
    Hang,
    /// Written, no answer.
    HangAfter,
}

/// A store whose PUTs meet their fates; afterwards they pass.
#[derive(Debug)]
pub struct Fateful {
    pub inner: Arc<dyn ObjectStore>,
    pub fates: Mutex<VecDeque<Fate>>,
}

impl fmt::Display for Fateful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fateful({})", self.inner)
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

fn lost() -> Error {
    Error::Generic {
        store: "Fateful",
        source: "connection reset".into(),
    }
}

impl ObjectStore for Fateful {
    fn put_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Boxed<'c, PutResult>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async move {
            let fate = self.fates.lock().unwrap().pop_front().unwrap_or(Fate::Pass);
            match fate {
                Fate::Pass => self.inner.put_opts(location, payload, opts).await,
                Fate::FailBefore => Err(lost()),
                Fate::FailAfter => {
                    self.inner.put_opts(location, payload, opts).await?;
                    Err(lost())
                }
                Fate::Hang => std::future::pending().await,
                Fate::HangAfter => {
                    self.inner.put_opts(location, payload, opts).await?;
                    std::future::pending().await
                }
                Fate::Refuse => Err(Error::PermissionDenied {
                    path: location.to_string(),
                    source: "no".into(),
                }),
            }
        })
    }

    fn put_multipart_opts<'a, 'b, 'c>(
        &'a self,
        _: &'b Path,
        _: PutMultipartOptions,
    ) -> Boxed<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
        'b: 'c,
    {
        panic!("a multipart upload has no condition")
    }

    fn get_opts<'a, 'b, 'c>(&'a self, location: &'b Path, o: GetOptions) -> Boxed<'c, GetResult>
    where
        'a: 'c,
        'b: 'c,
    {
        self.inner.get_opts(location, o)
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        panic!("nothing is ever deleted")
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, p: Option<&'b Path>) -> Boxed<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
    {
        self.inner.list_with_delimiter(p)
    }

    fn copy_opts<'a, 'b, 'd, 'c>(
        &'a self,
        _: &'b Path,
        _: &'d Path,
        _: CopyOptions,
    ) -> Boxed<'c, ()>
    where
        'a: 'c,
        'b: 'c,
        'd: 'c,
    {
        panic!("nothing is ever copied")
    }
}

mod tests {
    use super::super::support::*;
    use super::super::*;
    use super::Fate;

    #[test]
    fn r25_a_put_that_is_never_answered_is_given_up_and_settled() {
        for fate in [Fate::Hang, Fate::HangAfter] {
            // Its clock goes on to the next time-out whenever everybody waits.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let handle = runtime.handle().clone();
            let (end, ended) = tokio::sync::oneshot::channel::<()>();
            let driver = std::thread::spawn(move || runtime.block_on(ended));
            let plain = World::new();
            let objects = Objects::over(Arc::clone(&plain.store) as _, URL, handle);
            let world = World {
                objects: Arc::new(objects),
                ..plain
            };
            let mut archive = world.archive(by_records(2));
            world.journal.seal_plain(1, "t", 2);
            world.journal.seal_plain(2, "t", 2);
            world.fates([fate]);
            assert_eq!(archive.advance(Seq(2)).unwrap(), Seq(2), "{fate:?}");
            assert_eq!(world.archived(), world.journal.expected(Seq(2)));
            drop(end);
            driver.join().unwrap().unwrap_err();
        }
    }
}
