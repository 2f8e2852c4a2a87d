//! What every store must do, one named test for each promise. What is in the list below runs on SQLite, PostgreSQL and
//! MariaDB; what is about segment files and the database file stands as a plain test in its file and runs on SQLite alone.

mod basics;
mod cache;
mod contents;
mod failures;
mod history;
mod nodes;
mod outages;
mod promised;
mod recovery;
mod replay;
mod retention;
mod space;
pub mod support;

use crate::support::servers::Engine;

/// A function that is in no list is not used, and the compiler says so.
macro_rules! everywhere {
    ($($file:ident: $($name:ident)*;)*) => {
        everywhere!(@on sqlite Sqlite $($file: $($name)*;)*);
        everywhere!(@on postgres Postgres $($file: $($name)*;)*);
        everywhere!(@on mariadb MariaDb $($file: $($name)*;)*);
    };
    (@on $module:ident $engine:ident $($file:ident: $($name:ident)*;)*) => {
        mod $module {
            $(mod $file {
                $(#[tokio::test]
                async fn $name() {
                    super::super::$file::$name(super::super::Engine::$engine).await;
                })*
            })*
        }
    };
}

/// What only a database server can do: serve several nodes.
macro_rules! on_servers {
    ($($file:ident: $($name:ident)*;)*) => {
        everywhere!(@on between_postgres Postgres $($file: $($name)*;)*);
        everywhere!(@on between_mariadb MariaDb $($file: $($name)*;)*);
    };
}

on_servers! {
    history:
        a_commit_finds_that_the_database_went_back
        a_look_finds_what_is_lost_although_others_went_on
        numbers_and_lives_are_not_given_twice
        a_backup_that_is_restored_under_running_nodes_begins_a_new_history
        marks_that_were_forgotten_are_not_lost
        searches_find_what_comes_in_a_new_history;
    nodes:
        two_nodes_write_to_the_same_mailboxes_at_once
        two_nodes_expire_at_once_and_each_message_goes_once
        a_message_that_both_delete_goes_once
        a_quota_is_exact_however_many_nodes_deliver
        a_mailbox_that_both_make_by_mail_is_one
        a_list_after_a_position_of_the_stream_leaves_out_nothing
        what_nodes_of_other_clocks_changed_is_forgotten_up_to_the_last_that_goes
        exactly_the_changes_that_were_found_old_are_forgotten;
    outages:
        killed_connections_lose_nothing_and_repeat_nothing
        reads_that_are_given_up_leave_no_transaction_behind
        a_database_that_is_away_is_said_so_and_comes_back
        a_server_that_stands_still_keeps_no_reader_waiting_for_ever
        a_commit_that_stays_locked_keeps_nobody_waiting_for_ever
        what_was_fenced_off_unheard_is_not_taken_for_a_commit
        a_primary_that_may_only_be_read_counts_as_away_and_is_reached_anew;
}

everywhere! {
    contents:
        text_that_an_engine_could_refuse
        the_longest_of_everything
        addresses_that_an_engine_could_take_for_one
        a_body_of_10_mib_that_does_not_compress;
    basics:
        what_was_put_in_is_listed_and_reads_back_byte_for_byte
        several_mailboxes_share_one_body_and_one_commit
        counters_are_dense_and_events_come_in_commit_order
        a_store_knows_when_something_was_committed_before_it_was_opened
        an_address_without_a_row_is_empty_at_cursor_zero
        a_list_of_all_spans_mailboxes_newest_first;
    cache:
        a_page_is_served_from_memory_until_something_changes
        who_was_answered_sees_the_message_in_the_next_list;
    replay:
        arrivals_and_changes_are_merged_in_commit_order
        a_cursor_of_another_life_or_ahead_of_the_counter_is_reset
        a_list_believes_the_positions_that_can_be_continued_alone
        forgotten_changes_reset_older_cursors_but_not_the_empty_view
        the_stream_tells_that_a_mailbox_is_gone
        a_restored_backup_has_a_new_lineage;
    retention:
        what_expires_is_a_prefix_and_leaves_one_tombstone
        what_has_ended_is_out_of_sight_before_retention_comes
        a_mailbox_made_by_mail_goes_when_it_is_empty_and_one_made_by_a_call_stays
        an_ended_mailbox_gives_its_address_to_a_new_life
        ids_are_never_used_again
        a_full_mailbox_refuses_or_drops_its_oldest
        a_mailbox_that_may_not_be_made_refuses_the_whole_delivery
        another_default_lifetime_holds_for_what_is_there
        many_expire_in_steps_and_the_rest_is_untouched;
    failures:
        a_panic_before_the_commit_is_a_refusal
        a_panic_after_the_commit_is_still_a_yes_and_is_announced
        a_failed_commit_is_a_refusal
        a_commit_whose_answer_was_lost_is_looked_up
        what_was_refused_does_not_come_back_at_the_next_start;
    promised:
        a_repeat_is_a_yes_and_changes_nothing
        what_was_promised_is_stored_over_quota
        a_mailbox_that_is_gone_is_left_out_and_named
        a_mailbox_that_was_deleted_with_the_message_is_not_named
        the_database_is_asked_whether_it_takes_what_is_written;
    space:
        a_long_mailbox_is_listed_by_pages
        a_panic_of_a_caller_does_not_end_the_writer
        what_is_refused_takes_no_space;
}
