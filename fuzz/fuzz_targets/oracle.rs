//! Tokens, statements and their kinds are those that PostgreSQL's own parser finds.

#![no_main]

use actix_shareddb::__fuzzing::{command, statements, tokens};
use libfuzzer_sys::fuzz_target;
use pg_query::protobuf::{Token, TransactionStmtKind};
use pg_query::{NodeEnum, ParserOptions};

fuzz_target!(|text: &str| {
    if !text.contains('\0') {
        check_statements(text);
        check_tokens(text);
    }
});

fn check_tokens(text: &str) {
    let Ok(scanned) = pg_query::scan(text) else {
        return;
    };
    let comments = [Token::SqlComment as i32, Token::CComment as i32];
    let place = |place: i32| usize::try_from(place).expect("it stands in the text");
    // Two quotes stand for one in bit strings to us alone.
    let bits = [Token::Bconst as i32, Token::Xconst as i32];
    if scanned
        .tokens
        .iter()
        .any(|token| bits.contains(&token.token))
    {
        return;
    }
    let mut ours = tokens(text).into_iter().peekable();
    for theirs in &scanned.tokens {
        if comments.contains(&theirs.token) {
            continue;
        }
        let (start, end) = (place(theirs.start), place(theirs.end));
        let first = ours.next().expect("there is a token");
        assert_eq!(first.start, start, "{theirs:?}");
        let mut last = first;
        // What follows the first digits of a number may be a word to us.
        while is_number(theirs.token)
            && let Some(next) = ours.next_if(|next| next.end <= end)
        {
            last = next;
        }
        assert_eq!(last.end, end, "{theirs:?}");
    }
    assert_eq!(ours.next(), None);
}

fn is_number(token: i32) -> bool {
    [Token::Iconst as i32, Token::Fconst as i32].contains(&token)
}

fn check_statements(text: &str) {
    let Ok(parsed) = pg_query::parse(text, ParserOptions::DEFAULT) else {
        return;
    };
    let ours = statements(text);
    let theirs = &parsed.protobuf.stmts;
    assert_eq!(ours.len(), theirs.len(), "{ours:?} {theirs:?}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        let start = usize::try_from(theirs.stmt_location).expect("it stands in the text");
        let length = usize::try_from(theirs.stmt_len).expect("a length");
        let end = if length == 0 {
            text.len()
        } else {
            start + length
        };
        // Where comments stand before a statement, not all versions say that it begins there.
        let first = tokens(&text[ours.clone()])
            .first()
            .map_or(0, |first| first.start);
        let first = ours.start + first;
        assert!(
            start <= first && first < end && ours.end <= end,
            "{ours:?} {theirs:?}"
        );
        let node = theirs.stmt.as_ref().and_then(|stmt| stmt.node.as_ref());
        let command = command(&text[ours.clone()]);
        let kind = node.map_or("Other", kind);
        let found = command.split([' ', '(']).next().unwrap_or_default();
        assert!(
            kind == found || kind == "Other" && !EXACT.contains(&found),
            "{:?} is {command}, and to PostgreSQL {node:?}",
            &text[ours.clone()]
        );
    }
}

/// The kinds that are told from the parser's tree as well.
const EXACT: [&str; 21] = [
    "Begin",
    "Commit",
    "Rollback",
    "Savepoint",
    "Release",
    "RollbackTo",
    "PrepareTransaction",
    "CommitPrepared",
    "RollbackPrepared",
    "Prepare",
    "Execute",
    "Deallocate",
    "DeallocateAll",
    "Listen",
    "Unlisten",
    "UnlistenAll",
    "Notify",
    "DeclareCursor",
    "CloseCursor",
    "CloseAll",
    "CopyFromStdin",
];

fn kind(node: &NodeEnum) -> &'static str {
    match node {
        NodeEnum::TransactionStmt(transaction) => match transaction.kind() {
            TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart => "Begin",
            TransactionStmtKind::TransStmtCommit => "Commit",
            TransactionStmtKind::TransStmtRollback => "Rollback",
            TransactionStmtKind::TransStmtSavepoint => "Savepoint",
            TransactionStmtKind::TransStmtRelease => "Release",
            TransactionStmtKind::TransStmtRollbackTo => "RollbackTo",
            TransactionStmtKind::TransStmtPrepare => "PrepareTransaction",
            TransactionStmtKind::TransStmtCommitPrepared => "CommitPrepared",
            TransactionStmtKind::TransStmtRollbackPrepared => "RollbackPrepared",
            TransactionStmtKind::Undefined => "Other",
        },
        NodeEnum::PrepareStmt(_) => "Prepare",
        NodeEnum::ExecuteStmt(_) => "Execute",
        NodeEnum::DeallocateStmt(statement) if statement.name.is_empty() => "DeallocateAll",
        NodeEnum::DeallocateStmt(_) => "Deallocate",
        NodeEnum::ListenStmt(_) => "Listen",
        NodeEnum::UnlistenStmt(statement) if statement.conditionname.is_empty() => "UnlistenAll",
        NodeEnum::UnlistenStmt(_) => "Unlisten",
        NodeEnum::NotifyStmt(_) => "Notify",
        NodeEnum::DeclareCursorStmt(_) => "DeclareCursor",
        NodeEnum::ClosePortalStmt(statement) if statement.portalname.is_empty() => "CloseAll",
        NodeEnum::ClosePortalStmt(_) => "CloseCursor",
        NodeEnum::CopyStmt(copy)
            if copy.is_from && copy.filename.is_empty() && !copy.is_program =>
        {
            "CopyFromStdin"
        }
        _ => "Other",
    }
}
