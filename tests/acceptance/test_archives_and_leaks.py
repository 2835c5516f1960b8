"""Archives that answer badly, and test sets that leak: tested beside the code, and called from here."""

from __future__ import annotations

import test_archive
import test_archive_transfer
import test_cli_audit
from test_archive import ask, server  # noqa: F401 (fixtures)
from test_cli_audit import run  # noqa: F401

test_a22_replies_that_are_no_file = test_archive_transfer.test_traps
test_a22_a_hang_ends = test_archive_transfer.test_a_hang_ends
test_a22_retries_are_bounded = test_archive_transfer.test_waits_double_and_retry_after_is_honoured
test_a22_a_wrong_sha256 = test_archive_transfer.test_a_wrong_sha256
test_a22_no_other_scheme = test_archive_transfer.test_urls_that_are_none
test_a22_the_cache_is_unchanged = test_archive.test_a_failure_leaves_what_was_there
test_a24_one_cluster_under_two_names = test_cli_audit.test_one_cluster_under_two_names
test_a24_augmented_copies = test_cli_audit.test_augmented_copies
test_a24_made_from_a_test_cluster = test_cli_audit.test_models_that_were_made_from_a_test_cluster
