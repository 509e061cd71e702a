"""TotalSegmentator's network with random weights, in the folder where TotalSegmentator looks for its own.

PEER_PYTHON benchmarks/segmentation_speed_peer.py HOME fast|fastest     (run by segmentation_speed.py)

For machines that cannot download the real weights. Random weights cost the same time and memory as trained
ones. The network is that of the published `total` task, 3 mm: nnU-Net v2, 5 stages of 32 to 320 features,
patch 112 x 112 x 128, no mirroring. For 6 mm a patch of 64 x 64 x 64 is assumed. The background's bias is so
high that the answer is empty: what the tool does with labels after the network costs less than it would.
"""

import json
import sys
from pathlib import Path

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from totalsegmentator.map_to_binary import class_map

MODES = {
    "fast": ("Dataset297_TotalSegmentator_total_3mm_1559subj", 3.0, (112, 112, 128)),
    "fastest": ("Dataset298_TotalSegmentator_total_6mm_1559subj", 6.0, (64, 64, 64)),
}
TRAINER = "nnUNetTrainer_4000epochs_NoMirroring"
FEATURES = (32, 64, 128, 256, 320)


def architecture() -> dict:
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": len(FEATURES),
            "features_per_stage": list(FEATURES),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * len(FEATURES),
            "strides": [[1, 1, 1], *[[2, 2, 2]] * (len(FEATURES) - 1)],
            "n_conv_per_stage": [2] * len(FEATURES),
            "n_conv_per_stage_decoder": [2] * (len(FEATURES) - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans(dataset: str, spacing_mm: float, patch: tuple[int, ...]) -> dict:
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    labels = {**resampling, "is_seg": True, "order": 1}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "median_image_size_in_voxels": list(patch),
        "spacing": [spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": labels,
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "batch_dice": True,
        "architecture": architecture(),
    }
    # HU range and mean of a body in air; the values do not matter to time or memory.
    intensities = {"percentile_00_5": -1000.0, "percentile_99_5": 1500.0, "mean": -50.0, "std": 500.0}
    return {
        "dataset_name": dataset,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }


def main(home: Path, mode: str) -> None:
    dataset, spacing_mm, patch = MODES[mode]
    folder = home / "nnunet" / "results" / dataset / f"{TRAINER}__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    names = class_map["total"]
    labels = {"background": 0, **{names[n]: n for n in sorted(names)}}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    (folder / "plans.json").write_text(json.dumps(plans(dataset, spacing_mm, patch)))
    torch.manual_seed(0)
    shape = architecture()
    network = get_network_from_plans(
        shape["network_class_name"],
        shape["arch_kwargs"],
        shape["_kw_requires_import"],
        1,
        len(labels),
        deep_supervision=False,
    )
    for layer in network.decoder.seg_layers:
        torch.nn.init.zeros_(layer.bias)
        layer.bias.data[0] = 50.0  # nnU-Net adds up logits in half precision
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": TRAINER,
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    nothing_sent = {"totalseg_id": "benchmark", "send_usage_stats": False, "prediction_counter": 1}
    (home / "config.json").write_text(json.dumps({**nothing_sent, "statistics_disclaimer_shown": True}))
    count = sum(p.numel() for p in network.parameters()) / 1e6
    print(f"{dataset}: {count:.1f} M parameters, {spacing_mm:g} mm, patch {patch}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
