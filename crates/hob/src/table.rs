//! Tables of text.

/// Rows of text whose columns are as wide as they need to be.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads and no row yet.
    pub(crate) fn new<H: Into<String>>(heads: impl IntoIterator<Item = H>) -> Self {
        let heads = heads.into_iter().map(Into::into).collect();
        Self { rows: vec![heads] }
    }

    /// One more row, with as many cells as there are heads.
    pub(crate) fn add(&mut self, row: impl Into<Vec<String>>) {
        self.rows.push(row.into());
    }

    /// The table, with these columns flush right and no blanks at the ends of lines.
    pub(crate) fn text(&self, right: &[usize]) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let cell = |(column, cell): (usize, &String)| {
            let width = width(column);
            if right.contains(&column) {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            }
        };
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
            format!("{}\n", cells.concat().trim_end())
        };
        self.rows.iter().map(line).collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["", "NAME", "SIZE"]);
        table.add(["*", "a", "1"].map(str::to_owned));
        table.add(["", "long-name", "1000"].map(str::to_owned));
        assert_eq!(
            table.text(&[2]),
            "   NAME       SIZE\n*  a             1\n   long-name  1000\n"
        );
    }
}
