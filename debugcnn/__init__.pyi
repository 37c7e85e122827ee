from .diagnosis.engine import diagnose as diagnose
from .diagnosis.report import (
    Finding as Finding,
    Report as Report,
)
from .files.images import (
    class_folders as class_folders,
)
from .files.images import (
    image_files as image_files,
)
from .files.images import (
    is_readable as is_readable,
)
from .files.images import (
    labelled_files as labelled_files,
)
from .files.images import (
    load_images as load_images,
)
from .files.images import (
    load_labelled_images as load_labelled_images,
)
from .files.labels import (
    class_numbers as class_numbers,
)
from .files.models import (
    load_model as load_model,
)
from .loading import (
    LabelledImages as LabelledImages,
    load_labelled as load_labelled,
)
from .statistics import (
    best_pairing as best_pairing,
)
from .loading import (
    LabelledImages as LabelledImages,
    load_labelled as load_labelled,
)
from .statistics import (
    confusion_matrix as confusion_matrix,
)
from .loading import (
    LabelledImages as LabelledImages,
    load_labelled as load_labelled,
)
from .statistics import (
    wilson_interval as wilson_interval,
)
from .views.activations import (
    ChannelSummary as ChannelSummary,
)
from .views.activations import (
    activations as activations,
)
from .views.activations import (
)
from .views.activations import (
    convolution_ends as convolution_ends,
)
from .views.activations import (
    convolution_layers as convolution_layers,
    summarize_channels as summarize_channels,
)
from .views.baselines import (
    baseline_fill as baseline_fill,
)
from .views.baselines import (
    blurred as blurred,
)
from .views.figures import (
    confusion_figure as confusion_figure,
)
from .views.figures import (
    grid as grid,
)
from .views.figures import (
    layers_figure as layers_figure,
)
from .views.figures import (
    montage as montage,
)
from .views.figures import (
    overlay as overlay,
)
from .views.figures import (
    show as show,
)
from .views.figures import (
    to_rgb as to_rgb,
)
from .views.heatmap_catalogue import (
    CENTER_BLOB as CENTER_BLOB,
)
from .views.heatmap_catalogue import (
    HEATMAP_METHODS as HEATMAP_METHODS,
)
from .views.heatmap_catalogue import (
    HEATMAP_PRODUCTS as HEATMAP_PRODUCTS,
)
from .views.heatmap_catalogue import (
    TRIVIAL_HEATMAPS as TRIVIAL_HEATMAPS,
)
from .views.heatmap_catalogue import (
    center_blob as center_blob,
)
from .views.heatmap_catalogue import (
    edge_map as edge_map,
)
from .views.heatmap_catalogue import (
    heatmap_names as heatmap_names,
)
from .views.heatmap_catalogue import (
    heatmaps_by_name as heatmaps_by_name,
)
from .views.heatmap_catalogue import (
    product as product,
)
from .views.heatmap_catalogue import (
    usable_methods as usable_methods,
)
from .views.heatmap_metrics import (
    cascading_randomization as cascading_randomization,
)
from .views.heatmap_metrics import (
    deletion_curve as deletion_curve,
)
from .views.heatmap_metrics import (
    energy_pointing as energy_pointing,
)
from .views.heatmap_metrics import (
    layers_with_weights as layers_with_weights,
)
from .views.heatmap_metrics import (
    pointing_game as pointing_game,
)
from .views.heatmap_metrics import (
    rank_correlation as rank_correlation,
)
from .views.heatmap_metrics import (
    top_fraction_inside as top_fraction_inside,
)
from .views.heatmaps import (
    evidence as evidence,
)
from .views.heatmaps import (
    grad_cam as grad_cam,
)
from .views.heatmaps import (
    grad_cam_plus_plus as grad_cam_plus_plus,
)
from .views.heatmaps import (
    hires_cam as hires_cam,
)
from .views.heatmaps import (
    layer_cam as layer_cam,
)
from .views.kinds import (
    CONVOLUTIONS as CONVOLUTIONS,
)
from .views.kinds import (
    NORMALISATIONS as NORMALISATIONS,
)
from .views.kinds import (
    POOLINGS as POOLINGS,
)
from .views.last_map import (
    default_layer as default_layer,
)
from .views.patterns import (
    Objective as Objective,
)
from .views.patterns import (
    filter_patterns as filter_patterns,
)
from .views.patterns import (
    objective as objective,
)
from .views.patterns import (
    pasted_responses as pasted_responses,
)
from .views.patterns import (
    receptive_field as receptive_field,
)
from .views.patterns import (
    responses as responses,
)
from .views.perturbation import (
    occlusion as occlusion,
)
from .views.perturbation import (
    rise as rise,
)
from .views.perturbation import (
    score_cam as score_cam,
)
from .views.pixel_gradients import (
    guided_backpropagation as guided_backpropagation,
)
from .views.pixel_gradients import (
    integrated_gradients as integrated_gradients,
)
from .views.pixel_gradients import (
    integrated_gradients_from_blur as integrated_gradients_from_blur,
)
from .views.pixel_gradients import (
    smooth_grad as smooth_grad,
)
from .views.predictions import (
    ClassifierHead as ClassifierHead,
)
from .views.predictions import (
    classifier_head as classifier_head,
)
from .views.predictions import (
    last_operation as last_operation,
)
from .views.predictions import (
    logits as logits,
)
from .views.predictions import (
    logits_and_probabilities as logits_and_probabilities,
)
from .views.predictions import (
    logits_in_graph as logits_in_graph,
)
from .views.predictions import (
    output_activations as output_activations,
)
from .views.predictions import (
    probabilities as probabilities,
)
from .views.tracing import (
    LayerFacts as LayerFacts,
)
from .views.tracing import (
    check_images as check_images,
)
from .views.tracing import (
    image_shape as image_shape,
)
from .views.tracing import (
    layer_table as layer_table,
)
from .views.tracing import (
    model_digest as model_digest,
)
from .views.value_ranges import (
    VALUE_RANGES as VALUE_RANGES,
)
from .views.value_ranges import (
    FoundRange as FoundRange,
)
from .views.value_ranges import (
    Trial as Trial,
)
from .views.value_ranges import (
    find_value_range as find_value_range,
)
from .views.value_ranges import (
    from_pixels as from_pixels,
)
from .views.value_ranges import (
    to_pixels as to_pixels,
)
