//! Tables for people: columns as wide as their widest cell. Never passes on what could steer a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
const GAP: &str = "  ";

/// A head and its rows, each row with as many cells.
pub(super) fn render(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows = std::iter::once(head).chain(rows);
    let rows: Vec<Vec<String>> = rows
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.width()));
            line.push_str(GAP);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text on one line, without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    let steers =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace(steers, " ")
}

/// A cell of no more than `width` columns.
pub(super) fn cut(cell: &str, width: usize) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    // One column is the ellipsis's.
    let mut left = width.saturating_sub(1);
    let fits = cell.chars().take_while(|c| {
        let taken = c.width().unwrap_or(0);
        let fits = taken <= left;
        left = left.saturating_sub(taken);
        fits
    });
    fits.chain(std::iter::once('…')).collect()
}

/// A text in lines of no more than `width` columns, divided between words; a longer word has a line of its own.
pub(super) fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// `0.3 s`, `42 s`, `7 min`, `3 h`.
pub(super) fn age(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const N: usize>(rows: &[[&str; N]]) -> impl Iterator<Item = Vec<String>> {
        rows.iter()
            .map(|row| row.map(str::to_owned).to_vec())
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = render(&["KEY", "REASON"], rows(&[["ä", "x"], ["a-long-key", "y"]]));
        assert_eq!(text, "KEY         REASON\nä           x\na-long-key  y\n");
    }

    #[test]
    fn columns_align_when_characters_are_wide_or_have_no_width() {
        let text = render(
            &["KEY", "X"],
            rows(&[["注文", "x"], ["e\u{301}e\u{301}", "y"], ["abcd", "z"]]),
        );
        let before = |line: &str| line.rsplit_once(' ').map(|(before, _)| before.width());
        let places: Vec<_> = text.lines().map(before).collect();
        assert_eq!(places, [Some(5); 4], "{text}");
    }

    #[test]
    fn a_wide_character_at_the_edge_is_left_out_whole() {
        assert_eq!(cut("a注文注文", 4), "a注…");
        assert_eq!(cut("a注文注文", 5), "a注…");
        assert_eq!(cut("a注文", 5), "a注文");
    }

    #[test]
    fn lines_are_divided_between_words() {
        assert_eq!(wrapped("one two  three", 7), "one two\nthree");
        assert_eq!(
            wrapped("incomprehensibilities no", 9),
            "incomprehensibilities\nno"
        );
    }

    #[test]
    fn nothing_in_a_cell_steers_the_terminal() {
        let text = render(&["A"], rows(&[["a\u{1b}[2Jb\nc\rd\u{202e}e\u{9b}f"]]));
        assert_eq!(text, "A\na [2Jb c d e f\n");
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(
            [0.25, 59.0, 600.0, 86400.0].map(age),
            ["0.2 s", "59 s", "10 min", "24 h"]
        );
    }
}
