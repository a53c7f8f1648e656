//! Charts of the medians, on logarithmic axes.

use std::path::Path;

use plotters::prelude::*;

use crate::measure::Cell;
use crate::{TABLES, THREADS};

/// What a test costs with so many tables, one at a time.
pub(crate) fn by_tables(cells: &[Cell], path: &Path) {
    let cells = cells.iter().filter(|cell| cell.threads == 1);
    draw(
        &cells.collect::<Vec<_>>(),
        path,
        "A test over HTTP, by the tables of the application",
        ("tables", &TABLES),
        |cell| cell.tables,
    );
}

/// What a test costs with so many at a time, with 40 tables.
pub(crate) fn by_threads(cells: &[Cell], path: &Path) {
    let cells = cells.iter().filter(|cell| cell.tables == 40);
    draw(
        &cells.collect::<Vec<_>>(),
        path,
        "A test over HTTP with 40 tables, by the tests at a time",
        ("tests at a time", &THREADS),
        |cell| cell.threads,
    );
}

fn draw(
    cells: &[&Cell],
    path: &Path,
    title: &str,
    (label, marks): (&str, &[usize]),
    across: impl Fn(&Cell) -> usize,
) {
    let root = SVGBackend::new(path, (860, 480)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let medians = cells.iter().map(|cell| cell.median());
    let most = medians.clone().fold(1.0, f64::max);
    let least = medians.fold(1.0, f64::min);
    let (first, last) = (marks[0] as f64, marks[marks.len() - 1] as f64);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .margin_right(240)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (first..last)
                .log_scale()
                .with_key_points(marks.iter().map(|&mark| mark as f64).collect()),
            (least / 2.0..most * 2.0).log_scale(),
        )
        .unwrap();
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(label)
        .y_desc("ms per test")
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value}"))
        .draw()
        .unwrap();
    let mut names: Vec<&str> = Vec::new();
    for cell in cells {
        if !names.contains(&&*cell.way) {
            names.push(&cell.way);
        }
    }
    // The legend is in the order of the lines' ends.
    let end = |name: &str| {
        let mut of_way = cells.iter().filter(|cell| cell.way == name);
        of_way
            .find(|cell| across(cell) == marks[marks.len() - 1])
            .map_or(0.0, |cell| cell.median())
    };
    let mut ordered = names.clone();
    ordered.sort_by(|a, b| end(b).total_cmp(&end(a)));
    for (place, name) in ordered.iter().enumerate() {
        let index = names.iter().position(|known| known == name).unwrap();
        let colour = Palette99::pick(index).to_rgba();
        let style = colour.stroke_width(if index == 0 { 4 } else { 2 });
        let points = cells
            .iter()
            .filter(|cell| cell.way == *name)
            .map(|cell| (across(cell) as f64, cell.median()));
        chart
            .draw_series(LineSeries::new(points, style).point_size(3))
            .unwrap();
        let height = 60 + 26 * i32::try_from(place).unwrap();
        root.draw(&PathElement::new([(632, height), (654, height)], style))
            .unwrap();
        root.draw(&Text::new(
            format!("{name}: {}", figure(end(name))),
            (660, height - 6),
            ("sans-serif", 12),
        ))
        .unwrap();
    }
    root.present().unwrap();
}

/// Three digits.
fn figure(milliseconds: f64) -> String {
    match milliseconds {
        ..10.0 => format!("{milliseconds:.2} ms"),
        ..100.0 => format!("{milliseconds:.1} ms"),
        _ => format!("{milliseconds:.0} ms"),
    }
}
