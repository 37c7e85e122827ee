from .diagnosis.engine import (
    diagnose as diagnose,
)
from .diagnosis.findings import (
    Finding as Finding,
)
from .diagnosis.report import (
    Report as Report,
)
from .files.images import (
    class_folders as class_folders,
    image_files as image_files,
    is_readable as is_readable,
    labelled_files as labelled_files,
    load_images as load_images,
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
    confusion_matrix as confusion_matrix,
    wilson_interval as wilson_interval,
)
from .views.activations import (
    ChannelSummary as ChannelSummary,
    activations as activations,
    convolution_ends as convolution_ends,
    convolution_layers as convolution_layers,
    summarize_channels as summarize_channels,
)
from .views.baselines import (
    baseline_fill as baseline_fill,
    blurred as blurred,
)
from .views.figures import (
    confusion_figure as confusion_figure,
    grid as grid,
    layers_figure as layers_figure,
    montage as montage,
    overlay as overlay,
    show as show,
    to_rgb as to_rgb,
)
from .views.heatmap_catalogue import (
    CENTER_BLOB as CENTER_BLOB,
    HEATMAP_METHODS as HEATMAP_METHODS,
    HEATMAP_PRODUCTS as HEATMAP_PRODUCTS,
    TRIVIAL_HEATMAPS as TRIVIAL_HEATMAPS,
    center_blob as center_blob,
    edge_map as edge_map,
    heatmap_names as heatmap_names,
    heatmaps_by_name as heatmaps_by_name,
    product as product,
    usable_methods as usable_methods,
)
from .views.heatmap_metrics import (
    cascading_randomization as cascading_randomization,
    deletion_curve as deletion_curve,
    energy_pointing as energy_pointing,
    layers_with_weights as layers_with_weights,
    pointing_game as pointing_game,
    rank_correlation as rank_correlation,
    top_fraction_inside as top_fraction_inside,
)
from .views.heatmaps import (
    evidence as evidence,
    grad_cam as grad_cam,
    grad_cam_plus_plus as grad_cam_plus_plus,
    hires_cam as hires_cam,
    layer_cam as layer_cam,
)
from .views.kinds import (
    CONVOLUTIONS as CONVOLUTIONS,
    NORMALISATIONS as NORMALISATIONS,
    POOLINGS as POOLINGS,
)
from .views.last_map import (
    default_layer as default_layer,
)
from .views.patterns import (
    Objective as Objective,
    filter_patterns as filter_patterns,
    objective as objective,
    pasted_responses as pasted_responses,
    receptive_field as receptive_field,
    responses as responses,
)
from .views.perturbation import (
    occlusion as occlusion,
    rise as rise,
    score_cam as score_cam,
)
from .views.pixel_gradients import (
    guided_backpropagation as guided_backpropagation,
    integrated_gradients as integrated_gradients,
    integrated_gradients_from_blur as integrated_gradients_from_blur,
    smooth_grad as smooth_grad,
)
from .views.predictions import (
    ClassifierHead as ClassifierHead,
    classifier_head as classifier_head,
    last_operation as last_operation,
    logits as logits,
    logits_and_probabilities as logits_and_probabilities,
    logits_in_graph as logits_in_graph,
    output_activations as output_activations,
    probabilities as probabilities,
)
from .views.range_search import (
    RangeEstimate as RangeEstimate,
    Trial as Trial,
    find_value_range as find_value_range,
)
from .views.tracing import (
    LayerFacts as LayerFacts,
    check_images as check_images,
    image_shape as image_shape,
    layer_table as layer_table,
    model_digest as model_digest,
)
from .views.value_ranges import (
    VALUE_RANGES as VALUE_RANGES,
    from_pixels as from_pixels,
    to_pixels as to_pixels,
)
