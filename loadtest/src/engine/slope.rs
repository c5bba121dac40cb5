//! Whether something grows: the slope of the straight line that fits best.

/// The change of a value for each unit of the first coordinate, by least squares; nothing for fewer than three points.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (points.len() >= 3 && spread > 0.0).then(|| together / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_noise_has_none() {
        let line: Vec<_> = (0..100).map(|n| (f64::from(n), 5.0 + 0.25 * f64::from(n))).collect();
        assert!(slope(&line).is_some_and(|slope| (slope - 0.25).abs() < 1e-9));
        let wave: Vec<_> = (0..1000).map(|n| (f64::from(n), f64::from(n % 2))).collect();
        assert!(slope(&wave).is_some_and(|slope| slope.abs() < 1e-4));
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(slope(&[(1.0, 1.0); 5]), None);
    }
}
