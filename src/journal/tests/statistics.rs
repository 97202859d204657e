use super::*;
use crate::journal::Count;

fn count(bucket: u16, count: u64) -> Count {
    Count { pool: "shell".into(), measure: "arming".into(), bucket, count }
}

#[tokio::test]
async fn statistics_are_kept_beside_the_chain_and_come_back() {
    let home = Home::new();
    let journal = home.journal();
    journal.record(at(started(1))).await.unwrap();
    let before = journal.reader().verify().await.unwrap();
    journal.keep_statistics(vec![count(3, 5), count(9, 1)]).await;
    journal.keep_statistics(vec![count(3, 7)]).await;
    assert_eq!(journal.reader().verify().await.unwrap(), before, "they are no evidence");
    journal.close().await;
    let journal = home.journal();
    let mut kept = journal.reader().statistics().await.unwrap();
    kept.sort_by_key(|it| it.bucket);
    assert_eq!(kept, [count(3, 7), count(9, 1)]);
    journal.record(at(started(2))).await.unwrap();
}

#[tokio::test]
async fn what_is_queued_with_statistics_is_recorded_all_the_same() {
    let home = Home::new();
    let journal = home.journal();
    let (first, kept, second) = tokio::join!(
        journal.record(at(started(1))),
        journal.keep_statistics(vec![count(1, 1)]),
        journal.record(at(started(2))),
    );
    first.unwrap();
    second.unwrap();
    let () = kept;
    assert_eq!(journal.reader().statistics().await.unwrap(), [count(1, 1)]);
}

#[tokio::test]
async fn a_journal_of_before_there_were_statistics_gets_their_table() {
    let home = Home::new();
    let journal = home.journal();
    journal.record(at(started(1))).await.unwrap();
    journal.close().await;
    home.other().execute_batch("DROP TABLE statistics").unwrap();
    let journal = home.journal();
    assert_eq!(journal.reader().statistics().await.unwrap(), []);
}
