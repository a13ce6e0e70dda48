//! Plans as EXPLAIN writes them, with their branches drawn. Changes no word of them.

/// The plan with lines for its branches; what follows the plans (JSON) stays as it is.
pub fn drawn(plan: &str) -> String {
    let end = plan.find("\n\n== Physical Execution Plan ==\n{").unwrap_or(plan.len());
    let mut out = plan[..end].lines().map(line).collect::<Vec<_>>().join("\n");
    out.push_str(&plan[end..]);
    out
}

fn line(line: &str) -> String {
    let branch = ["+- ", ":- "].iter().filter_map(|b| line.find(b)).min();
    let Some(at) = branch.filter(|at| line[..*at].chars().all(|c| c == ' ' || c == ':')) else {
        return line.to_owned();
    };
    let corner = if line[at..].starts_with('+') { "└─ " } else { "├─ " };
    format!("{}{corner}{}", line[..at].replace(':', "│"), &line[at + 3..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_drawn_as_trees() {
        let plan = "Sink(a)\n+- Join(b +- c)\n   :- Calc(c)\n   :  +- Scan(d)\n   +- Scan(:- e)\n\nadvice: +- x";
        let tree = "Sink(a)\n└─ Join(b +- c)\n   ├─ Calc(c)\n   │  └─ Scan(d)\n   └─ Scan(:- e)\n\nadvice: +- x";
        assert_eq!(drawn(plan), tree);
        let json = "S\n+- T\n\n== Physical Execution Plan ==\n{\n  +- x\n}";
        assert_eq!(drawn(json), json.replace("+- T", "└─ T"));
    }
}
