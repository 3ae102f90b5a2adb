//! DESIGN's diagram of a token's phases, move by move.

use service_connector::model::token::{Move, Phase};

/// Every legal move; whatever is not here must be refused.
const LEGAL: [(Phase, Move, Phase); 13] = [
    (Phase::Issuing, Move::Grant, Phase::Active),
    (Phase::Issuing, Move::RefuseAnswer, Phase::Revoking),
    (Phase::Issuing, Move::Unwant, Phase::Revoking),
    (Phase::Issuing, Move::FindGone, Phase::Revoked),
    (Phase::Issuing, Move::Lose, Phase::Lost),
    (Phase::Active, Move::Retire, Phase::Retiring),
    (Phase::Active, Move::Unwant, Phase::Revoking),
    (Phase::Active, Move::Expire, Phase::Expired),
    (Phase::Retiring, Move::Unwant, Phase::Revoking),
    (Phase::Retiring, Move::Expire, Phase::Expired),
    (Phase::Revoking, Move::Confirm, Phase::Revoked),
    (Phase::Revoking, Move::Expire, Phase::Expired),
    (Phase::Revoking, Move::Forget, Phase::Forgotten),
];

const MOVES: [Move; 9] = [
    Move::Grant,
    Move::RefuseAnswer,
    Move::FindGone,
    Move::Retire,
    Move::Unwant,
    Move::Confirm,
    Move::Expire,
    Move::Lose,
    Move::Forget,
];

#[test]
fn each_move_of_the_diagram_is_legal_and_no_other_is() {
    for phase in Phase::ALL {
        for attempted in MOVES {
            let legal = LEGAL.iter().find(|(from, how, _)| (*from, *how) == (phase, attempted));
            let after = phase.after(attempted);
            assert_eq!(after.ok(), legal.map(|(_, _, to)| *to), "{phase} {attempted:?}");
        }
    }
}

#[test]
fn nothing_moves_after_an_end() {
    for phase in Phase::ALL.into_iter().filter(|phase| phase.is_end()) {
        assert!(MOVES.iter().all(|attempted| phase.after(*attempted).is_err()), "{phase}");
    }
}

#[test]
fn a_debt_is_never_taken_back() {
    for attempted in MOVES {
        if let Ok(after) = Phase::Revoking.after(attempted) {
            assert!(after.is_end(), "{attempted:?} leads from a debt to {after}");
        }
    }
}

#[test]
fn an_illegal_move_says_which() {
    let error = Phase::Revoked.after(Move::Grant).unwrap_err();
    assert_eq!(error.to_string(), "a token that is revoked cannot Grant");
}
