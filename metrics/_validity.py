# ruff: noqa: E501
"""What metrics make of explanations whose order is known; written by tests/acceptance/metric_validity.py.

Data sets: keyword:test, bag_of_words:test, negation:test, and_pair:test.
Models: bert-base-mini, gpt2-mini.
At most 42 examples each; 95 % intervals.
"""

VALIDITY: dict[str, str] = {
    "comprehensiveness": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 12; best method above the oracle in 4",
    "sufficiency": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 11; best method above the oracle in 5",
    "aopc_comprehensiveness": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 12; best method above the oracle in 4",
    "aopc_sufficiency": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 11; best method above the oracle in 5",
    "naopc_comprehensiveness": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 4; best method above the oracle in 12",
    "naopc_sufficiency": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 6; best method above the oracle in 10",
    "log_odds": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 16",
    "erasure_kl": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 14; best method above the oracle in 2",
    "deletion_auc": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 11; best method above the oracle in 5",
    "insertion_auc": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 11; best method above the oracle in 5",
    "decision_flip_first": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 12; noise not told apart from both in 4",
    "decision_flip_fraction": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 15; best method above the oracle in 1",
    "effective_complexity": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 13; best method above the oracle in 3",
    "soft_comprehensiveness": "oracle > best method > noise in 2 of 8 settings; oracle and best method level in 5; best method above the oracle in 1",
    "soft_sufficiency": "oracle > best method > noise in 3 of 8 settings; oracle and best method level in 5",
    "road_proxy": "oracle > best method > noise in 0 of 8 settings; oracle and best method level in 6; best method above the oracle in 2",
    "infidelity": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 14; best method above the oracle in 2",
    "faithfulness_correlation": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 13; best method above the oracle in 3",
    "sensitivity_n": "oracle > best method > noise in 0 of 16 settings; oracle and best method level in 15; best method above the oracle in 1",
    "lds": "oracle > best method > noise in 1 of 16 settings; oracle and best method level in 15",
    "lds_share": "oracle > best method > noise in 1 of 16 settings; oracle and best method level in 12; best method above the oracle in 3",
    "monotonicity": "oracle > best method > noise in 4 of 8 settings; oracle and best method level in 4",
    "sensitivity_violation": "oracle > best method > noise in 0 of 8 settings; noise not told apart from both in 8",
    "non_sensitivity": "oracle > best method > noise in 0 of 8 settings; oracle and best method level in 1; noise not told apart from both in 7",
    "completeness_gap": "not judged against an oracle: that claims no sum of its scores",
    "conservation_gap": "not judged against an oracle: that claims no sum of its scores",
    "tau_loo": "oracle > best method > noise in 6 of 16 settings; oracle and best method level in 4; best method above the oracle in 6",
    "roar": "not judged against an oracle: it would train models for it",
    "recursive_roar": "not judged against an oracle: it would train models for it",
}
