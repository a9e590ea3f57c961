//! The object server, checked by object_store's own conformance functions.

use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::integration;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::support::objects::{Fault, ObjectServer};

fn client(server: &ObjectServer) -> GoogleCloudStorage {
    GoogleCloudStorageBuilder::new()
        .with_bucket_name("bucket")
        .with_service_account_key(server.service_account())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()
        .unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn the_object_server_conforms_to_what_object_store_expects_of_gcs() {
    let server = ObjectServer::start();
    let store = client(&server);
    block_on(async {
        integration::put_get_delete_list(&store).await;
        integration::put_opts(&store, true).await;
        integration::get_opts(&store).await;
        integration::put_get_attributes(&store).await;
        integration::list_uses_directories_correctly(&store).await;
        integration::list_with_delimiter(&store).await;
        integration::rename_and_copy(&store).await;
        integration::copy_if_not_exists(&store).await;
        integration::copy_rename_nonexistent_object(&store).await;
        integration::stream_get(&store).await;
        integration::get_nonexistent_object(&store, None)
            .await
            .unwrap_err();
    });
}

#[test]
fn a_fault_hits_one_put_and_says_whether_it_was_written() {
    let create = PutOptions {
        mode: PutMode::Create,
        ..PutOptions::default()
    };
    for (fault, is_written) in [
        (Fault::Refuse(403), false),
        (Fault::CloseBefore, false),
        (Fault::WriteThen(400), true),
        (Fault::WriteThenClose, true),
        (Fault::Slow, true),
    ] {
        let server = ObjectServer::start();
        let store = client(&server);
        let path = Path::from("a/b");
        server.fail(&[fault]);
        block_on(async {
            // What it says is for who puts; here only what it did counts.
            let first = store.put_opts(&path, "x".into(), create.clone()).await;
            assert_eq!(
                first.is_ok(),
                matches!(fault, Fault::Slow | Fault::CloseBefore),
                "{fault:?}"
            );
            let written = store.head(&path).await.is_ok();
            assert_eq!(written, is_written || first.is_ok(), "{fault:?}");
        });
        assert_eq!(server.faults_left(), 0, "{fault:?}");
    }
}
