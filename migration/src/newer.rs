//! Whether this version may use tables that a newer one has changed, by the names of what changed them. Pure.

/// The number that a name begins with: 7 of `m0007_something`.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix('m')?.split('_').next()?.parse().ok()
}

/// What a program must know at least to go on beside a migration: 7 for `m0009_needs_m0007_something`, nothing else for others.
fn needs(name: &str) -> Option<u32> {
    let (_, rest) = name.split_once('_')?;
    rest.strip_prefix("needs_").and_then(number)
}

/// Whether a version that knows the migrations `own`, in order, may go on where `others` were applied besides.
///
/// # Errors
/// One line for the operator.
pub fn may_go_on(own: &[String], others: &[String]) -> Result<(), String> {
    let last = own.last().map_or("", String::as_str);
    let known = number(last).unwrap_or(0);
    for other in others {
        if number(other).is_none_or(|number| number <= known) {
            return Err(format!(
                "its tables were changed by a program of another line: {other} is none of this version's"
            ));
        }
        if needs(other).is_some_and(|needs| needs > known) {
            return Err(format!(
                "a newer version took away what this one needs ({other}; this one knows the tables up to {last}): \
                 run the newer version"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(others: &[&str]) -> Result<(), String> {
        let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        may_go_on(&text(&["m0001_store", "m0002_search", "m0010_last"]), &text(others))
    }

    #[test]
    fn names_say_in_which_order_and_what_is_needed() {
        let names = crate::names();
        let numbers: Vec<_> = names.iter().map(|name| number(name).unwrap()).collect();
        assert_eq!(numbers, (1..=u32::try_from(names.len()).unwrap()).collect::<Vec<_>>());
        for name in names.iter().filter(|name| name.contains("_needs_")) {
            assert!(needs(name).is_some_and(|needs| Some(needs) < number(name)), "{name}");
        }
    }

    #[test]
    fn what_newer_versions_add_is_no_obstacle() {
        assert_eq!(judged(&[]), Ok(()));
        assert_eq!(judged(&["m0011_more", "m0012_needs", "m0013_needy_m0099_more"]), Ok(()));
    }

    #[test]
    fn what_is_taken_away_is_missed_by_those_alone_who_do_not_know_how_to_go_on() {
        assert_eq!(judged(&["m0011_more", "m0012_needs_m0010_less"]), Ok(()));
        let refused = judged(&["m0011_more", "m0012_needs_m0011_less"]).unwrap_err();
        assert!(refused.contains("m0012_needs_m0011_less") && refused.contains("up to m0010_last"), "{refused}");
    }

    #[test]
    fn tables_of_another_line_are_left_alone() {
        for other in ["m0010_other", "m0003_between", "create", "mail", ""] {
            assert!(judged(&[other]).unwrap_err().contains("another line"), "{other}");
        }
    }
}
