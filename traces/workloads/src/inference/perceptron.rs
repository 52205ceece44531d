//! A multi-layer perceptron: fully connected layers with rectifiers between them, forward and backward.
//!
//! All parameters lie in one block, layer after layer, each its weights (outputs x inputs) and then its biases: the block
//! is allocated by the model it belongs to, so that it has that model's name.

use super::matrix::{Form, fill_normal, multiply, relu};

/// The layers' outputs for some samples, the input first: or, backward, the gradients by them.
pub(crate) type Activations = Vec<Vec<f32>>;

/// A perceptron.
#[derive(Debug)]
pub(crate) struct Perceptron {
    /// Length of the input and of each layer's output.
    sizes: Vec<usize>,
    parameters: Vec<f32>,
    /// Whether the last layer's output is rectified too.
    rectified: bool,
}

impl Perceptron {
    /// Parameters of a perceptron of those sizes.
    pub(crate) fn parameter_count(sizes: &[usize]) -> usize {
        sizes.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum()
    }

    /// A perceptron in `parameters`, as many as [`Perceptron::parameter_count`] says, which it sets.
    pub(crate) fn new(sizes: &[usize], mut parameters: Vec<f32>, rectified: bool, seed: u64) -> Self {
        let mut start = 0;
        for pair in sizes.windows(2) {
            let weights = pair[0] * pair[1];
            let deviation = (2.0 / pair[0] as f32).sqrt();
            fill_normal(&mut parameters[start..start + weights], seed.wrapping_add(start as u64), deviation);
            start += weights + pair[1];
        }
        Perceptron { sizes: sizes.to_vec(), parameters, rectified }
    }

    /// The parameters, to be changed by training.
    pub(crate) fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// Room for the outputs of every layer, for that many samples.
    pub(crate) fn activations(&self, samples: usize) -> Activations {
        self.sizes.iter().map(|size| vec![0.0; size * samples]).collect()
    }

    /// Begin of each layer's parameters, its inputs and its outputs.
    fn layers(&self) -> impl DoubleEndedIterator<Item = (usize, usize, usize)> + ExactSizeIterator {
        let mut start = 0;
        let layers: Vec<_> = self
            .sizes
            .windows(2)
            .map(|pair| {
                let layer = (start, pair[0], pair[1]);
                start += (pair[0] + 1) * pair[1];
                layer
            })
            .collect();
        layers.into_iter()
    }

    /// Computes every layer's output from the input in `activations[0]`, for the first `samples` samples.
    pub(crate) fn forward(&self, samples: usize, activations: &mut Activations) {
        let last = self.layers().len() - 1;
        for (index, (start, inputs, outputs)) in self.layers().enumerate() {
            let (weights, biases) = self.parameters[start..start + (inputs + 1) * outputs].split_at(inputs * outputs);
            let (before, after) = activations.split_at_mut(index + 1);
            let (x, y) = (&before[index][..samples * inputs], &mut after[0][..samples * outputs]);
            for row in y.chunks_exact_mut(outputs) {
                row.copy_from_slice(biases);
            }
            multiply((samples, inputs, outputs), (x, Form::AsIs), (weights, Form::Transposed), y, true);
            if index < last || self.rectified {
                relu(y);
            }
        }
    }

    /// From the gradient by the last output, in the last of `gradients`, computes those by all others and by the input,
    /// and adds those by the parameters to `by_parameters`.
    pub(crate) fn backward(
        &self,
        samples: usize,
        activations: &Activations,
        gradients: &mut Activations,
        by_parameters: &mut [f32],
    ) {
        let last = self.layers().len() - 1;
        for (index, (start, inputs, outputs)) in self.layers().enumerate().rev() {
            let weights = &self.parameters[start..start + inputs * outputs];
            let (by_weights, by_biases) =
                by_parameters[start..start + (inputs + 1) * outputs].split_at_mut(inputs * outputs);
            let (before, after) = gradients.split_at_mut(index + 1);
            let (by_x, by_y) = (&mut before[index][..samples * inputs], &mut after[0][..samples * outputs]);
            if index < last || self.rectified {
                for (gradient, output) in by_y.iter_mut().zip(&activations[index + 1]) {
                    *gradient = if *output > 0.0 { *gradient } else { 0.0 };
                }
            }
            let x = &activations[index][..samples * inputs];
            multiply((outputs, samples, inputs), (by_y, Form::Transposed), (x, Form::AsIs), by_weights, true);
            for row in by_y.chunks_exact(outputs) {
                by_biases.iter_mut().zip(row).for_each(|(bias, gradient)| *bias += gradient);
            }
            multiply((samples, outputs, inputs), (by_y, Form::AsIs), (weights, Form::AsIs), by_x, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::close;
    use super::*;

    fn example(rectified: bool) -> (Perceptron, Activations) {
        let sizes = [3, 5, 2];
        let parameters = vec![0.1; Perceptron::parameter_count(&sizes)];
        let perceptron = Perceptron::new(&sizes, parameters, rectified, 4);
        let mut activations = perceptron.activations(4);
        fill_normal(&mut activations[0], 9, 1.0);
        (perceptron, activations)
    }

    #[test]
    fn each_layer_is_its_weights_times_its_input_plus_its_biases() {
        for rectified in [false, true] {
            let (perceptron, mut activations) = example(rectified);
            perceptron.forward(4, &mut activations);
            for (layer, (start, inputs, outputs)) in perceptron.layers().enumerate() {
                let expected: Vec<f32> = (0..4 * outputs)
                    .map(|i| {
                        let (sample, output) = (i / outputs, i % outputs);
                        let row = &perceptron.parameters[start + output * inputs..][..inputs];
                        let x = &activations[layer][sample * inputs..][..inputs];
                        let bias = perceptron.parameters[start + inputs * outputs + output];
                        let sum = bias + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
                        if layer == 0 || rectified { sum.max(0.0) } else { sum }
                    })
                    .collect();
                assert!(close(&activations[layer + 1], &expected, 1e-5));
            }
        }
    }

    #[test]
    fn gradients_are_differences_over_small_steps() {
        let (mut perceptron, mut activations) = example(false);
        // The loss is the sum of the outputs, so that the gradient by each is 1.
        let loss = |perceptron: &Perceptron, activations: &mut Activations| {
            perceptron.forward(4, activations);
            activations[2].iter().map(|&x| f64::from(x)).sum::<f64>()
        };
        loss(&perceptron, &mut activations);
        let mut gradients = perceptron.activations(4);
        gradients[2].fill(1.0);
        let mut by_parameters = vec![0.0; perceptron.parameters.len()];
        perceptron.backward(4, &activations, &mut gradients, &mut by_parameters);
        const STEP: f32 = 1e-2;
        let near = |up: f64, down: f64, gradient: f32| {
            let slope = (up - down) / f64::from(2.0 * STEP);
            assert!((slope - f64::from(gradient)).abs() < 2e-2 * (1.0 + slope.abs()), "{slope} {gradient}");
        };
        for (i, &gradient) in by_parameters.iter().enumerate() {
            let whole = perceptron.parameters[i];
            perceptron.parameters[i] = whole + STEP;
            let up = loss(&perceptron, &mut activations);
            perceptron.parameters[i] = whole - STEP;
            let down = loss(&perceptron, &mut activations);
            perceptron.parameters[i] = whole;
            near(up, down, gradient);
        }
        for i in 0..activations[0].len() {
            let whole = activations[0][i];
            activations[0][i] = whole + STEP;
            let up = loss(&perceptron, &mut activations);
            activations[0][i] = whole - STEP;
            let down = loss(&perceptron, &mut activations);
            activations[0][i] = whole;
            near(up, down, gradients[0][i]);
        }
    }
}
