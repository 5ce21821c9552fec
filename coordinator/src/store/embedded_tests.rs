use super::*;
use crate::testing::job;

fn ids(jobs: &[muster_domain::job::Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.spec.id.as_str()).collect()
}

fn put(id: &str) -> Write {
    Write::Job(Box::new(job(id)))
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/store.redb");
    let store = Embedded::open(&path).unwrap();
    let term = store.next_term().await.unwrap();
    assert_eq!(term, 1);
    assert!(store.load(0).await.unwrap().jobs.is_empty());
    store.commit(term, vec![put("1"), put("2"), put("3")]).await.unwrap();
    store.commit(term, vec![Write::ForgetJob(job("2").spec.id), put("4")]).await.unwrap();
    store.close().await.unwrap();
    let store = Embedded::open(&path).unwrap();
    assert_eq!(store.next_term().await.unwrap(), 2);
    let jobs = store.load(2).await.unwrap().jobs;
    assert_eq!(ids(&jobs), ["1", "3", "4"]);
    assert_eq!(jobs[0], job("1"));
}

#[tokio::test]
async fn an_older_term_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(&directory.path().join("store.redb")).unwrap();
    let old = store.next_term().await.unwrap();
    let new = store.next_term().await.unwrap();
    let refused = store.commit(old, vec![put("1")]).await.unwrap_err();
    assert_eq!(refused, StoreError::Fenced { held: new, ours: old });
    assert!(store.load(0).await.unwrap().jobs.is_empty());
    store.commit(new, vec![put("1")]).await.unwrap();
}

#[tokio::test]
async fn a_file_is_opened_by_one_coordinator_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let _first = Embedded::open(&path).unwrap();
    let error = Embedded::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains("is in use by another coordinator; stop that one"), "{error}");
}

#[test]
fn a_newer_file_is_refused_in_words_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(SCHEMA_KEY, 7).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Embedded::open(&path).unwrap_err();
    assert!(error.to_string().contains("newer version of Muster (schema 7, this version knows 1)"), "{error}");
    let database = Database::open(&path).unwrap();
    assert!(database.begin_read().unwrap().open_table(JOBS).is_err());
}

#[test]
fn a_path_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "not a store").unwrap();
    let error = Embedded::open(&file.join("store.redb")).unwrap_err().to_string();
    assert!(error.contains("store.redb cannot be opened: directory"), "{error}");
    let error = Embedded::open(&file).unwrap_err().to_string();
    assert!(error.contains("cannot be opened"), "{error}");
}

#[tokio::test]
async fn a_thousand_documents_are_one_batch() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(&directory.path().join("store.redb")).unwrap();
    let term = store.next_term().await.unwrap();
    let writes = (0..1000).map(|number| put(&format!("{number:04}"))).collect();
    store.commit(term, writes).await.unwrap();
    assert_eq!(store.load(1).await.unwrap().jobs.len(), 1000);
}

#[test]
fn a_document_names_its_version() {
    let bytes = document::encode(&job("54112")).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.starts_with(r#"{"v":1,"job":{"#), "{text}");
    assert_eq!(document::decode(&bytes).unwrap(), job("54112"));
    let newer = text.replacen(r#""v":1"#, r#""v":9"#, 1);
    let error = document::decode(newer.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("document version 9, known up to 1"), "{error}");
    assert!(document::decode(b"[]").is_err());
}

/// The bytes of version 1, for ever: a later program must read what an earlier one wrote. A change that makes this
/// fail needs a new [`document::VERSION`], or a default for what is new. `UPDATE_GOLDEN=1` writes the file anew, which is
/// right only until a release has written such documents.
#[test]
fn documents_of_version_1_are_read_for_ever() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/document_v1.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let document: serde_json::Value = serde_json::from_slice(&document::encode(&job("54112")).unwrap()).unwrap();
        std::fs::write(path, serde_json::to_string_pretty(&document).unwrap() + "\n").unwrap();
    }
    let golden = std::fs::read(path).unwrap();
    assert_eq!(document::decode(&golden).unwrap(), job("54112"));
}

#[test]
fn a_file_that_is_no_store_is_refused_with_what_to_do_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    for content in [b"garbage".as_slice(), &[7; 1 << 16]] {
        std::fs::write(&path, content).unwrap();
        let error = Embedded::open(&path).unwrap_err();
        assert!(error.to_string().contains("restore a backup"), "{error}");
        assert!(error.needs_an_operator());
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    let error = Embedded::open(&path.join("below")).unwrap_err();
    assert!(error.needs_an_operator(), "{error}");
}

#[test]
fn what_may_pass_is_left_to_another_start() {
    let full = redb::Error::Io(std::io::ErrorKind::StorageFull.into());
    let (why, may_pass) = cause(full);
    assert!(may_pass && why.contains("free space"), "{why}");
    assert!(!cause(redb::Error::Io(std::io::ErrorKind::PermissionDenied.into())).1);
    assert!(!OpenError::InUse { path: PathBuf::new() }.needs_an_operator());
}
